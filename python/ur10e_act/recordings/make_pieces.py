"""Converts recordings to pieces, several at a time, each in a process of its own.

Pieces are named by all that decides what is in them, so a run finds those that a killed one has left.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ur10e_act.atomic_io import Lock
from ur10e_act.config import to_dict
from ur10e_act.errors import UserError
from ur10e_act.process import die_with
from ur10e_act.recordings.bag_storage import read_metadata
from ur10e_act.recordings.conversion_report import Kept, RecordingReport, versions
from ur10e_act.recordings.convert_config import ConvertConfig
from ur10e_act.recordings.convert_recording import Progress, convert_recording
from ur10e_act.recordings.fault import Fault
from ur10e_act.recordings.find_recordings import Recording
from ur10e_act.recordings.piece import PIECE_REPORT

PIECE_FORMAT = 2  # Raised when the same recording would give another piece.

_messages_read: Any = None  # shared by the processes of a pool


@contextlib.contextmanager
def locked_pieces(output: Path) -> Iterator[Path]:
    """The directory for the pieces of ``output``, while no other process has it.

    Raises UserError where another one has, or it cannot be created.
    """
    pieces = output.parent / f".{output.name}.pieces"
    try:
        pieces.mkdir(parents=True, exist_ok=True)
        lock = Lock(pieces)
    except BlockingIOError:
        raise UserError(f"{output}: another process is converting to it") from None
    except OSError as error:
        raise UserError(f"{pieces}: cannot be created ({error.strerror})") from None
    try:
        yield pieces
    finally:
        lock.release()
        with contextlib.suppress(OSError):
            pieces.rmdir()  # only where nothing is left to resume from


@dataclass(frozen=True)
class _Job:
    recording: Recording
    config: ConvertConfig
    pieces: Path
    recover: bool
    known: RecordingReport | None  # from an earlier run

    def run(self, progress: Progress) -> RecordingReport:
        """The report of the recording: the known one, or that of its piece.

        Of an episode whose recording has changed, the known one with the new digests. Raises UserError.
        """
        recording, known = self.recording, self.known
        try:
            digests = recording.digests()
        except OSError as error:
            raise UserError(f"{error.filename}: cannot be read ({error.strerror})") from None
        if known is not None:
            kept = isinstance(known.result, Kept)
            if kept and known.digests.whole != digests.whole:
                return replace(known, digests=digests)
            if kept or (known.digests.whole == digests.whole and known.recover == self.recover):
                return known
        identity = [
            PIECE_FORMAT,
            digests.whole,
            recording.name,
            self.recover,
            to_dict(self.config),
            versions(),
        ]
        folder = self.pieces / hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:32]
        try:
            report = RecordingReport.from_json(json.loads((folder / PIECE_REPORT).read_text()))
            return replace(report, piece=folder.name)
        except (OSError, ValueError):
            pass
        try:
            return convert_recording(recording, digests, self.config, folder, self.recover, progress)
        except OSError as error:
            raise UserError(f"{recording.name}: cannot be converted ({error})") from None


def make_pieces(
    recordings: Sequence[Recording],
    config: ConvertConfig,
    pieces: Path,
    known: Sequence[RecordingReport],
    recover: bool,
    workers: int | None,
) -> list[RecordingReport]:
    """The report of every recording, in their order; those with ``piece`` are new.

    known: of an earlier run; a recording with the same digests is not converted again, but a skipped one is
    where ``recover`` differs. Where an episode's recording has changed, the report has other digests than
    the known one. workers: processes; None for one a core. Raises UserError.
    """
    by_name = {report.recording: report for report in known}
    jobs = [_Job(recording, config, pieces, recover, by_name.get(recording.name)) for recording in recordings]
    total = sum(_expected_messages(job) for job in jobs if job.known is None)
    reports: dict[str, RecordingReport] = {}
    with tqdm(total=total, unit=" messages", unit_scale=True, disable=None, file=sys.stderr) as bar:

        def finished(report: RecordingReport) -> None:
            reports[report.recording] = report
            if bar.disable and report.piece:
                print(report.line(), file=sys.stderr)
            bar.set_postfix_str(f"{len(reports)} of {len(jobs)} recordings")

        workers = max(1, min(workers or os.cpu_count() or 1, len(jobs)))
        if workers == 1:
            for job in jobs:
                finished(job.run(bar.update))
        else:
            _run_in_pool(jobs, workers, finished, bar.update)
    return [reports[recording.name] for recording in recordings]


def _expected_messages(job: _Job) -> int:
    """How many wanted messages metadata.yaml counts; for the progress bar alone."""
    with contextlib.suppress(Fault, OSError):
        counts = read_metadata(job.recording).counts
        return sum(counts.get(topic, 0) for topic in job.config.topics)
    return 0


def _run_in_pool(
    jobs: Sequence[_Job], workers: int, finished: Callable[[RecordingReport], None], progress: Progress
) -> None:
    context = multiprocessing.get_context("spawn")
    read = context.Value("q", 0)
    shown = 0
    pool = ProcessPoolExecutor(
        workers, mp_context=context, initializer=_begin_worker, initargs=(read, os.getpid())
    )
    try:
        # The longest first, so that the last one to end is a short one.
        order = sorted(jobs, key=lambda job: -job.recording.bytes)
        waiting: set[Future[RecordingReport]] = {pool.submit(_run_in_worker, job) for job in order}
        while waiting:
            over, waiting = wait(waiting, timeout=0.5, return_when="FIRST_COMPLETED")
            for future in over:
                finished(future.result())
            now = read.value
            progress(now - shown)
            shown = now
    except BrokenProcessPool:
        raise UserError(
            "a conversion process was killed, probably for lack of memory; set fewer --workers. The same "
            "command continues with what is done"
        ) from None
    finally:
        for process in multiprocessing.active_children():
            process.terminate()
        pool.shutdown(cancel_futures=True)


def _begin_worker(read: Any, parent: int) -> None:
    global _messages_read
    _messages_read = read
    die_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends us


def _run_in_worker(job: _Job) -> RecordingReport:
    return job.run(_count)


def _count(messages: int) -> None:
    with _messages_read.get_lock():
        _messages_read.value += messages
