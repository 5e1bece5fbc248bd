"""The one error type for a user's mistake, and the wrapper that prints it without a traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable


class UserError(Exception):
    """Bad input. The message is one line: what is wrong, where, and what to do."""


def run_cli(main: Callable[[], int | None]) -> None:
    """Run ``main`` and exit: its return value (None is 0), 2 for a UserError, 130 for Ctrl-C."""
    try:
        sys.exit(main() or 0)
    except UserError as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
