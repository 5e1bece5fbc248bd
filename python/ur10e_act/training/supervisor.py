"""Run a training command; publish its checkpoints meanwhile, and write its result when it has ended well.

python -m ur10e_act.training.supervisor --output DIR [--result DIR] [--publish SCRIPT URL] COMMAND ...

The command stays in our process group, which is what OSMO kills. SIGTERM and SIGINT are passed on to it as
SIGTERM; what it has saved by then is still published.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
from asyncio.subprocess import Process
from pathlib import Path

from ur10e_act.atomic_io import replace_directory
from ur10e_act.errors import TRY_AGAIN_STATUS, one_line, run_cli
from ur10e_act.process import die_with

POLL_S = 5.0  # how long a new checkpoint may wait


class Supervisor:
    """One training. ``run`` returns the exit status for all of it."""

    def __init__(
        self, command: list[str], output: Path, result: Path | None, publish: tuple[str, str] | None
    ) -> None:
        """``output``: the command's training.output_dir. ``publish``: scripts/publish.sh, and its DEST."""
        self.command = command
        self.output = output
        self.result = result
        self.publish = publish
        self._published = ""
        # What a signal is passed on to, while it runs.
        self._training: Process | None = None
        self._upload: Process | None = None

    async def run(self) -> int:
        """Status of the training, else of the result, else of the last upload; 128 + N for signal N."""
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT):
            # A shell's background jobs ignore SIGINT, and so do we then.
            if signal.getsignal(signum) != signal.SIG_IGN:
                loop.add_signal_handler(signum, self._stop, signum)
        training = asyncio.create_task(self._train())
        published = await self._publish_until_ended(training, *self.publish) if self.publish else 0
        return await training or published

    def _stop(self, signum: int) -> None:
        process = self._training or self._upload
        if process is None:
            sys.exit(128 + signum)
        with contextlib.suppress(ProcessLookupError):
            process.terminate()

    async def _train(self) -> int:
        self._training = await start(self.command)
        status = await ended(self._training)
        self._training = None
        if status == 0 and self.result is not None:
            try:
                write_result(self.output, self.result)
            except OSError as error:
                print(f"error: {self.result}: cannot be written to ({one_line(error)})", file=sys.stderr)
                return 2
        return status

    async def _publish_until_ended(self, training: asyncio.Task[int], script: str, dest: str) -> int:
        """Publish each new checkpoint, and what there is when ``training`` ends; that last status.

        What cannot be uploaded before is tried again with the next checkpoint.
        """
        # Beside the checkpoints, since hard links stay within a file system.
        snapshot = self.output / ".publishing"
        try:
            while True:
                await asyncio.wait({training}, timeout=POLL_S)
                final = training.done()
                status = await self._publish_last(snapshot / "checkpoints", script, dest, final)
                if final:
                    return status
        finally:
            shutil.rmtree(snapshot, ignore_errors=True)

    async def _publish_last(self, snapshot: Path, script: str, dest: str, final: bool) -> int:
        """Publish a copy, which training does not rotate away meanwhile; hard links, so it costs nothing."""
        checkpoints = self.output / "checkpoints"
        try:
            last = os.readlink(checkpoints / "last")
        except OSError:
            return 0
        if last == self._published:
            return 0
        try:
            link_tree(checkpoints, snapshot)
        except OSError as error:
            # A checkpoint may be removed while it is read, but not once training has ended.
            if final:
                print(f"error: {checkpoints}: cannot be published ({one_line(error)})", file=sys.stderr)
            return TRY_AGAIN_STATUS
        self._upload = await start([script, "--prune", str(snapshot), dest], stdout=subprocess.DEVNULL)
        status = await ended(self._upload)
        self._upload = None
        if status == 0:
            self._published = last
        return status


async def start(command: list[str], stdout: int | None = None) -> Process:
    """Start a process of our process group, without stdin, that does not outlive us."""
    parent = os.getpid()

    def prepare() -> None:
        die_with(parent)
        # Ctrl-C reaches the whole process group; the signal that we pass on is enough.
        signal.signal(signal.SIGINT, signal.SIG_IGN)

    return await asyncio.create_subprocess_exec(
        *command, stdin=subprocess.DEVNULL, stdout=stdout, preexec_fn=prepare
    )


async def ended(process: Process) -> int:
    """Its exit status, 128 + N where signal N ended it, as a shell has it."""
    status = await process.wait()
    return status if status >= 0 else 128 - status


def link_tree(source: Path, target: Path) -> None:
    """Make ``target`` a copy of ``source``, of hard links; without names at its top that begin with a dot.

    Raises OSError where that cannot be done, also when files are removed meanwhile.
    """
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(
        source,
        target,
        symlinks=True,
        ignore=lambda folder, names: [n for n in names if n.startswith(".") and Path(folder) == source],
        copy_function=os.link,
    )


def write_result(output: Path, result: Path) -> None:
    """Copy what evaluation and people want of a training's output to ``result``: the best checkpoint's
    pretrained_model and the metrics; no optimizer, no links (OSMO's uploads drop them). Raises OSError.
    """
    best = output / "checkpoints" / "best"
    source = best if best.exists() else output / "checkpoints" / "last"
    result.mkdir(parents=True, exist_ok=True)
    staging = result / ".pretrained_model"
    shutil.rmtree(staging, ignore_errors=True)
    shutil.copytree(source / "pretrained_model", staging)
    shutil.copy(output / "metrics.jsonl", result)
    replace_directory(staging, result / "pretrained_model", result / ".replaced")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, help="training.output_dir of the command")
    parser.add_argument("--result", type=Path, help="gets the best checkpoint's policy, and the metrics")
    parser.add_argument("--publish", nargs=2, metavar=("SCRIPT", "URL"), help="publish.sh, and where to")
    parser.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND")
    args = parser.parse_args()
    if not args.command:
        parser.error("name the training command")
    publish = tuple(args.publish) if args.publish else None
    return asyncio.run(Supervisor(args.command, args.output, args.result, publish).run())


if __name__ == "__main__":
    run_cli(main)
