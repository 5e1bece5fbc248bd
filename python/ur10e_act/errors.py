"""The errors that are said in one line, and the wrapper that prints them without a traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable


class UserError(Exception):
    """Bad input. The message is one line: what is wrong, where, and what to do."""


class TryAgain(UserError):
    """A temporary failure, worth a retry: a server was unreachable, a rank was lost, a source has changed."""


TRY_AGAIN_STATUS = 75  # as in sysexits.h: OSMO's exitActions can tell it from what somebody must fix


def one_line(error: object, limit: int | None = None) -> str:
    """The text of an error as one line, cut after ``limit`` characters; its class where it has no text."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if limit is None or len(text) <= limit else text[:limit] + " ..."


def run_cli(main: Callable[[], int | None]) -> None:
    """Run ``main`` and exit: its value (None is 0), 2 for a UserError, 75 for TryAgain, 130 for Ctrl-C."""
    try:
        sys.exit(main() or 0)
    except UserError as error:
        print("error:", one_line(error), file=sys.stderr)
        sys.exit(TRY_AGAIN_STATUS if isinstance(error, TryAgain) else 2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
