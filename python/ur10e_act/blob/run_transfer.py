"""Running a transfer's command: signals, exit status, and one line for an error, without secrets."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable

from ur10e_act.blob.credentials import redact
from ur10e_act.errors import TRY_AGAIN_STATUS, TryAgain, UserError, one_line


class Interrupted(BaseException):
    """A signal told us to end. ``signum`` is its number."""

    def __init__(self, signum: int):
        super().__init__(signum)
        self.signum = signum


def catch_signals() -> None:
    """SIGINT, SIGTERM and SIGHUP raise Interrupted once; those that follow are ignored while we clean up."""
    caught = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def handler(signum: int, _frame: object) -> None:
        for each in caught:
            signal.signal(each, signal.SIG_IGN)
        raise Interrupted(signum)

    for each in caught:
        signal.signal(each, handler)


def run_transfer(main: Callable[[], None]) -> None:
    """Run ``main`` and exit: 0, 2 for a UserError, 75 for TryAgain, 128 + signal; one line on stderr, never a
    secret.

    ``errors.run_cli`` without signals and without redaction.
    """
    catch_signals()
    try:
        main()
    except Interrupted as interrupted:
        print(f"\nended by {signal.Signals(interrupted.signum).name}", file=sys.stderr)
        sys.exit(128 + interrupted.signum)
    except (UserError, OSError) as error:
        print("error:", redact(one_line(error), os.environ), file=sys.stderr)
        sys.exit(TRY_AGAIN_STATUS if isinstance(error, TryAgain) else 2)
