"""Follow or end a workflow that was submitted to OSMO; see the usage of scripts/workflow.sh.

ID=WORKFLOW_ID python -m ur10e_act.osmo.workflow status | logs | cancel | watch
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from types import FrameType
from typing import IO, NoReturn

from ur10e_act.errors import UserError, run_cli
from ur10e_act.osmo.cli import Osmo, say
from ur10e_act.process import die_with

ALIVE = ("PENDING", "RUNNING", "WAITING")
AWAY = (10, 75)  # exit statuses of the CLI: the service fails, or takes no more requests for now
QUERY_SECONDS = 5  # between two looks at the state while logs are streaming
DRAIN_SECONDS = 10  # given to the CLI after the workflow's end, since it may continue to wait


def read_state(osmo: Osmo, workflow_id: str) -> str:
    """UserError for an unknown workflow; a service that is unreachable for a while is asked again."""
    for attempt in range(1, 6):
        answer = osmo.run("workflow", "query", workflow_id, "--format-type", "json")
        try:
            return answer.json()["status"]
        except (ValueError, KeyError, TypeError):
            if answer.status not in AWAY:
                break
        time.sleep(attempt * 2)
    raise UserError(f"{workflow_id} cannot be asked for: {answer.says}")


class LogFollower:
    """Prints a workflow's logs. Streams end early and start at the first line again, so lines are counted."""

    def __init__(self, osmo: Osmo, workflow_id: str) -> None:
        self.osmo, self.workflow_id = osmo, workflow_id
        self.printed = 0

    def follow(self) -> str:
        """Print the logs until the workflow ends; its state then. The last stream begins after its end."""
        while True:
            state = read_state(self.osmo, self.workflow_id)
            self._stream(state)
            if state not in ALIVE:
                return state
            time.sleep(1)

    def _stream(self, state: str) -> None:
        """Print one stream, until the CLI ends; where the workflow has ended, until soon after that."""
        parent = os.getpid()
        process = subprocess.Popen(
            [self.osmo.program, "workflow", "logs", self.workflow_id],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="utf-8",
            errors="replace",
            # A session of its own: what the CLI may have started ends with it.
            start_new_session=True,
            preexec_fn=lambda: die_with(parent),
        )
        reader = threading.Thread(target=self._print_new, args=(process.stdout,))
        reader.start()
        try:
            while process.poll() is None:
                alive = state in ALIVE
                try:
                    process.wait(QUERY_SECONDS if alive else DRAIN_SECONDS)
                except subprocess.TimeoutExpired:
                    if not alive:
                        break
                    state = read_state(self.osmo, self.workflow_id)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            reader.join()

    def _print_new(self, lines: IO[str]) -> None:
        """Print the complete lines that no earlier stream had."""
        for number, line in enumerate(lines):
            if number >= self.printed and line.endswith("\n"):
                print(line, end="", flush=True)
                self.printed = number + 1


def _exit_with(number: int, _: FrameType | None) -> NoReturn:
    sys.exit(128 + number)


def follow(osmo: Osmo, workflow_id: str) -> str:
    """``LogFollower.follow``, which leaves no process behind when signals end this one."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) == signal.SIG_DFL:  # nohup ignores SIGHUP
            signal.signal(number, _exit_with)
    # As other programs end when nobody reads them any more.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    return LogFollower(osmo, workflow_id).follow()


def watch(osmo: Osmo, workflow_id: str) -> int:
    """Follow the logs to the end; 0 where the workflow has COMPLETED, else 1."""
    state = follow(osmo, workflow_id)
    say(f"{workflow_id}: {state}")
    return 0 if state == "COMPLETED" else 1


def main() -> int:
    workflow_id = os.environ.get("ID", "")
    if not workflow_id:
        raise UserError("ID is not set: name the workflow, as ID=ur10e-act-ddp-3 (osmo workflow list)")
    osmo = Osmo()
    action = sys.argv[1] if len(sys.argv) > 1 else ""
    if action == "status":
        state = read_state(osmo, workflow_id)
        subprocess.run([osmo.program, "workflow", "query", workflow_id], check=False)
        return 0 if state in (*ALIVE, "COMPLETED") else 1
    if action == "logs":
        follow(osmo, workflow_id)
        return 0
    if action == "watch":
        return watch(osmo, workflow_id)
    if action == "cancel":
        answer = osmo.run("workflow", "cancel", workflow_id)
        if "is submitted" not in answer.text:
            raise UserError(answer.says)
        say(answer.says)
        return 0
    raise UserError(f"unknown action '{action}': status, logs, cancel or watch")


if __name__ == "__main__":
    run_cli(main)
