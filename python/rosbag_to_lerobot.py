"""Converts ROS 2 recordings to a LeRobot v3.0 dataset: one recording, one episode.

    python rosbag_to_lerobot.py --bags DIR --output DIR --config convert.yaml
    python rosbag_to_lerobot.py --inspect BAG > convert.yaml      # what is in it, and a configuration for it

Each recording becomes a piece (convert_recording.py) in a hidden folder beside the output, several at a time;
then the pieces are joined in the order of the recordings' names, without encoding anything again. A run that
was killed goes on with the pieces that are there. A later run on the same output adds what is new: episodes
keep their numbers. conversion.json in the dataset says what was kept, what not and why.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import fcntl
import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import av
import numpy as np
from tqdm import tqdm

from ur10e_act.atomic_io import write_file
from ur10e_act.config import to_dict
from ur10e_act.dataset.append import DatasetExtender
from ur10e_act.dataset.writer import DatasetWriter, EncodedVideo
from ur10e_act.errors import UserError, run_cli
from ur10e_act.recordings.bag_reader import Recording, find_recordings, folder_kind
from ur10e_act.recordings.convert_config import ConvertConfig, load_convert_config
from ur10e_act.recordings.convert_recording import camera_feature, convert_recording

REPORT = "conversion.json"
COUNTS = "meta/image_counts.json"
PIECE_FORMAT = 1  # Raised when the same recording would give another piece.

_progress: Any = None  # shared number of messages read, in each worker


@dataclass(frozen=True)
class Options:
    """recover, strict, overwrite: as the command line says. workers: processes, None for a core each."""

    recover: bool = False
    strict: bool = False
    overwrite: bool = False
    workers: int | None = None


def convert(bags: Path, output: Path, config: ConvertConfig, options: Options = Options()) -> dict[str, Any]:
    """Converts all recordings in ``bags`` that ``output`` does not have yet; returns conversion.json.

    Recordings that ``output`` has need not be in ``bags``. Raises UserError, leaving ``output`` as it is: no
    recording in either, none usable, one changed since it was converted, another configuration than
    before, or with ``strict`` any that would be skipped.
    """
    output = Path(output).absolute()
    if (Path(bags) / "meta" / "info.json").is_file():
        raise UserError(f"{bags}: is a LeRobot dataset already; there is nothing to convert")
    recordings = find_recordings(bags)
    if not recordings and output.is_dir():
        print(f"{bags}: no recordings here; {output} stays as it is", file=sys.stderr)
    else:
        folder_kind(bags)  # says what is wrong where there is nothing to convert
    pieces = output.parent / f".{output.name}.pieces"
    with _locked(pieces, output):
        before = None if options.overwrite else _read_report(output, config)
        reports = _make_pieces(recordings, config, options, pieces, before)
        entries = _choose(reports, before)
        skipped = [entry for entry in entries if entry["status"] == "skipped"]
        kept = [entry for entry in entries if entry["status"] == "kept"]
        print(summary(entries))
        if options.strict and skipped:
            raise UserError(
                f"{len(skipped)} of {len(entries)} recordings cannot be converted and --strict is set; the "
                f"first is {skipped[0]['recording']}: {skipped[0]['reason']}"
            )
        if not kept:
            raise UserError(f"{bags}: none of {len(entries)} recordings can be converted; see the table")
        new = [entry for entry in kept if "piece" in entry]
        report = _assemble(entries, new, output, config, before, pieces)
        shutil.rmtree(pieces)
    return report


def _assemble(entries, new, output: Path, config: ConvertConfig, before, pieces: Path) -> dict[str, Any]:
    number = max((entry["episode"] for entry in entries if entry.get("episode") is not None), default=-1) + 1
    for entry in new:
        entry["episode"] = number
        number += 1
    folders = [pieces / entry.pop("piece") for entry in new]
    for entry in entries:
        entry.pop("piece", None)
    counts = Counter(entry["status"] for entry in entries)
    frames = sum(entry["frames"] for entry in entries if entry["status"] == "kept")
    report = {
        "summary": {
            "kept": counts["kept"],
            "skipped": counts["skipped"],
            "frames": frames,
            "fps": config.fps,
        },
        "recordings": entries,
        "config": to_dict(config),
        "versions": _versions(),
    }
    content = (json.dumps(report, indent=2) + "\n").encode()
    if not new:
        if report != before:
            write_file(output / REPORT, content)
        return report
    described = _features(config, next(entry for entry in entries if entry["status"] == "kept"))
    arguments = (output, config.fps, config.robot_type, described)
    if before is None:
        overwrite = output.exists() and any(output.iterdir())
        writer = DatasetWriter(*arguments, video_codec=config.video_codec, overwrite=overwrite)
    else:
        image_counts = json.loads((output / COUNTS).read_text())
        writer = DatasetExtender(*arguments, image_counts, video_codec=config.video_codec)
    with writer:
        for folder in folders:
            columns = {
                "observation.state": np.load(folder / "state.npy"),
                "action": np.load(folder / "action.npy"),
            }
            videos = {
                camera_feature(name): EncodedVideo(
                    folder / f"{name}.mp4", np.load(folder / f"{name}.counts.npy")
                )
                for name in config.cameras
            }
            writer.add_encoded_episode(columns, videos, config.task)
        image_counts = {name: counts.tolist() for name, counts in writer.image_counts.items()}
        writer.extra_files = {REPORT: content, COUNTS: (json.dumps(image_counts) + "\n").encode()}
    return report


def _features(config: ConvertConfig, entry: dict[str, Any]) -> dict[str, dict[str, Any]]:
    joints = {"dtype": "float32", "shape": [len(config.state_names)], "names": list(config.state_names)}
    described: dict[str, dict[str, Any]] = {"observation.state": joints, "action": joints}
    for name in config.cameras:
        shape = entry["picture_shapes"][name]
        described[camera_feature(name)] = {
            "dtype": "video",
            "shape": shape,
            "names": ["height", "width", "channels"],
        }
    return described


def _read_report(output: Path, config: ConvertConfig) -> dict[str, Any] | None:
    """conversion.json of an earlier run with the same configuration; None where there is no output yet."""
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return None
    try:
        report = json.loads((output / REPORT).read_text())
        if not (output / COUNTS).is_file() or not report["recordings"]:
            raise ValueError
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{output}: is no dataset of this command; choose another --output") from None
    now = to_dict(config)
    differing = [key for key in now if now[key] != report["config"].get(key)]
    if differing:
        raise UserError(
            f"{output}: was converted with another {', '.join(differing)}; choose another --output, or "
            "convert everything anew with --overwrite"
        )
    return report


def _make_pieces(recordings, config, options: Options, pieces: Path, before) -> list[dict[str, Any]]:
    """The report of every recording, in the order of their names; ``piece`` names the folder of a new one."""
    known: dict[str, tuple[dict, bool]] = {}
    for entry in (before or {"recordings": ()})["recordings"]:
        again = entry["status"] == "skipped" and entry["recover"] != options.recover
        known[entry["recording"]] = (entry, again)
    jobs = [
        (recording, config, pieces, options.recover, known.get(recording.name)) for recording in recordings
    ]
    reports: dict[str, dict[str, Any]] = {}
    total = sum(_messages(recording, config) for recording in recordings if recording.name not in known)
    workers = max(1, min(options.workers or os.cpu_count() or 1, len(jobs)))
    context = multiprocessing.get_context("spawn")
    done = context.Value("q", 0)
    with tqdm(total=total, unit=" messages", unit_scale=True, disable=None, file=sys.stderr) as bar:

        def finished(report: dict[str, Any]) -> None:
            reports[report["recording"]] = report
            if bar.disable and "digest" in report:
                print(_line(report), file=sys.stderr)
            bar.set_postfix_str(f"{len(reports)} of {len(jobs)} recordings")

        if workers == 1:
            _begin_worker(done, own_process=False)
            for job in jobs:
                finished(_work(*job, lambda: bar.update(done.value - bar.n)))
        else:
            _pool(jobs, workers, context, done, finished, lambda: bar.update(done.value - bar.n))
    return [reports[recording.name] for recording in recordings]


def _pool(jobs, workers: int, context, done, finished: Callable, tick: Callable) -> None:
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin_worker, initargs=(done,))
    try:
        # The longest first, so that the last one to end is a short one.
        order = sorted(jobs, key=lambda job: -job[0].bytes)
        waiting: set[Future] = {pool.submit(_work, *job) for job in order}
        while waiting:
            over, waiting = wait(waiting, timeout=0.5, return_when="FIRST_COMPLETED")
            for future in over:
                finished(future.result())
            tick()
    except BrokenProcessPool:
        raise UserError(
            "a conversion process was killed, probably for lack of memory; set fewer --workers. The same "
            "command goes on with what is done"
        ) from None
    finally:
        for process in multiprocessing.active_children():
            process.terminate()
        pool.shutdown(cancel_futures=True)


def _begin_worker(done, own_process: bool = True) -> None:
    global _progress
    _progress = done
    if own_process:
        with contextlib.suppress(AttributeError, OSError):  # Linux alone has it
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: no worker outlives a killed parent
        if os.getppid() != multiprocessing.parent_process().pid:  # it was killed before that
            os._exit(1)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends us


def _work(
    recording: Recording, config, pieces: Path, recover: bool, known, tick=lambda: None
) -> dict[str, Any]:
    """The report of one recording, from its piece where a killed run left one."""
    try:
        digest, content, files = recording.digests()
    except OSError as error:
        raise UserError(f"{error.filename}: cannot be read ({error.strerror})") from None
    if known is not None:
        entry, again = known
        if entry["digest"] == digest and not again:
            return {"recording": recording.name, "unchanged": entry}
        if entry["status"] == "kept":
            return {"recording": recording.name, "changed": entry}
    identity = [PIECE_FORMAT, digest, recording.name, recover, to_dict(config), _versions()]
    folder = pieces / hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:32]

    def progress(messages: int) -> None:
        with _progress.get_lock():
            _progress.value += messages
        tick()

    try:
        report = json.loads((folder / "piece.json").read_text())
    except (OSError, ValueError):
        try:
            report = convert_recording(recording, config, folder, recover, progress)
        except OSError as error:
            raise UserError(f"{recording.name}: cannot be converted ({error})") from None
    digests = {"digest": digest, "content": content, "files": files}
    return report | digests | {"recover": recover, "piece": folder.name}


def _choose(reports: list[dict[str, Any]], before) -> list[dict[str, Any]]:
    """Entries of conversion.json, by name: earlier ones as they were, and new ones that fit them."""
    changed = [report["recording"] for report in reports if "changed" in report]
    if changed:
        raise UserError(
            f"{', '.join(changed)}: changed since it was converted; convert everything anew with --overwrite"
        )
    entries = {entry["recording"]: entry for entry in (before or {"recordings": ()})["recordings"]}
    kept = [entry for entry in entries.values() if entry["status"] == "kept"]
    shapes = kept[0]["picture_shapes"] if kept else None
    contents = {entry["content"]: entry["recording"] for entry in kept}
    for report in reports:
        if "unchanged" in report:
            continue
        if report["status"] == "kept":
            shapes = shapes or report["picture_shapes"]
            twin = contents.setdefault(report["content"], report["recording"])
            if twin != report["recording"]:
                report = _skipped(report, "duplicate", f"has the same content as {twin}")
            elif report["picture_shapes"] != shapes:
                sizes = f"{_sizes(report['picture_shapes'])}, the others {_sizes(shapes)}"
                report = _skipped(report, "size_differs", f"pictures are {sizes}; set resize for the camera")
        entries[report["recording"]] = report
    return [entries[name] for name in sorted(entries)]


def _skipped(report: dict[str, Any], code: str, reason: str) -> dict[str, Any]:
    keys = ("recording", "notes", "messages", "digest", "content", "files", "recover")
    return {key: report[key] for key in keys} | {"status": "skipped", "code": code, "reason": reason}


def _sizes(shapes: dict[str, list[int]]) -> str:
    return ", ".join(f"{name} {shape[1]}x{shape[0]} px" for name, shape in shapes.items())


def _messages(recording: Recording, config: ConvertConfig) -> int:
    """How many wanted messages metadata.yaml counts; for the progress bar alone."""
    from ur10e_act.recordings.bag_reader import RecordingFault, RecordingReader

    with contextlib.suppress(RecordingFault, OSError):
        counts = RecordingReader(recording).metadata["counts"]
        return sum(counts.get(topic, 0) for topic in config.topics)
    return 0


def _versions() -> dict[str, str]:
    encoders = {
        name: ".".join(map(str, number))
        for name, number in av.library_versions.items()
        if name == "libavcodec"
    }
    return {name: version(name) for name in ("av", "numpy", "pillow", "rosbags", "mcap")} | encoders


def _line(report: dict[str, Any]) -> str:
    if report["status"] == "kept":
        return f"{report['recording']}: {report['frames']} frames"
    return f"{report['recording']}: skipped, {report['code']}: {report['reason']}"


def summary(entries: list[dict[str, Any]]) -> str:
    """A table: recording, frames, kept or why not, and notes."""
    lines = [("recording", "frames", "result")]
    for entry in entries:
        result = "kept"
        if entry["status"] == "skipped":
            result = f"skipped, {entry['code']}: {entry['reason']}"
        notes = "".join(f"; {note['sentence']}" for note in entry["notes"])
        lines.append((entry["recording"], str(entry.get("frames", "-")), result + notes))
    widths = [max(len(line[column]) for line in lines) for column in (0, 1)]
    return "\n".join(
        f"{name:<{widths[0]}}  {frames:>{widths[1]}}  {result}" for name, frames, result in lines
    )


@contextlib.contextmanager
def _locked(pieces: Path, output: Path) -> Iterator[None]:
    try:
        pieces.mkdir(parents=True, exist_ok=True)
        lock = os.open(pieces, os.O_RDONLY)
    except OSError as error:
        raise UserError(f"{pieces}: cannot be created ({error.strerror})") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise UserError(f"{output}: another process is converting to it") from None
    finally:
        os.close(lock)
        with contextlib.suppress(OSError):
            pieces.rmdir()  # only where nothing is left to go on with


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bags", type=Path, help="folder of recordings (or one recording)")
    parser.add_argument("--output", type=Path, help="folder of the dataset")
    parser.add_argument("--config", type=Path, help="YAML file, see convert.yaml")
    parser.add_argument(
        "--override", action="append", default=[], metavar="KEY=VALUE", help="may be repeated"
    )
    parser.add_argument(
        "--inspect", type=Path, metavar="BAG", help="print what a recording holds, and a configuration"
    )
    parser.add_argument(
        "--strict", action="store_true", help="convert nothing unless every recording is whole"
    )
    parser.add_argument(
        "--recover",
        action="store_true",
        help="take what a killed recorder left: a cut .mcap, no metadata.yaml",
    )
    parser.add_argument("--overwrite", action="store_true", help="convert everything anew")
    parser.add_argument("--workers", type=int, help="recordings at a time (one a core)")
    args = parser.parse_args(argv)
    if args.inspect:
        from ur10e_act.recordings.inspect_recording import inspect

        print(inspect(args.inspect), end="")
        return
    if not args.bags or not args.output:
        parser.error("--bags and --output are needed (or --inspect)")
    if args.workers is not None and args.workers < 1:
        raise UserError("--workers must be at least 1")
    config_file = args.config
    if config_file is None:
        raise UserError("--config is needed: `make inspect BAG=DIR > convert.yaml` proposes one")
    config = load_convert_config(config_file, args.override)
    options = Options(args.recover, args.strict, args.overwrite, args.workers)
    report = convert(args.bags, args.output, config, options)
    counts = report["summary"]
    print(f"{args.output}: {counts['kept']} episodes, {counts['frames']} frames, {counts['skipped']} skipped")


if __name__ == "__main__":
    run_cli(main)
