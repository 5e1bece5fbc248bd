"""conversion.json: what became of every recording, with which configuration and versions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Any

import av

from ur10e_act.config import to_dict
from ur10e_act.errors import UserError
from ur10e_act.recordings.convert_config import ConvertConfig
from ur10e_act.recordings.find_recordings import Digests

REPORT = "conversion.json"
COUNTS = "meta/image_counts.json"
COMPARED = ("duplicate", "size_differs")  # codes of recordings that do not fit the others


@dataclass(frozen=True)
class Kept:
    """What a recording gave.

    frames: rows. start_s: time of the first one. picture_shapes: [H, W, 3] by camera.
    picture_offset_ms: how far images are from their rows (mean, max), by camera.
    largest_gap_ms: between two messages around a row, by joint, gripper or command.
    topics: from which clock each one's times are, and how much later its messages were received.
    """

    frames: int
    start_s: float
    picture_shapes: dict[str, list[int]]
    picture_offset_ms: dict[str, dict[str, float]]
    largest_gap_ms: dict[str, float]
    topics: dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Skipped:
    """Why a recording is left out: a code for machines, and a sentence."""

    code: str
    reason: str


@dataclass(frozen=True)
class RecordingReport:
    """One recording: an entry of conversion.json.

    notes: code and sentence of what was found and worked around. messages: how many were read, by topic.
    recover: whether --recover was set. episode: its number in the dataset.
    piece: name of the directory that holds what was converted, where it is not in the dataset yet.
    """

    recording: str
    result: Kept | Skipped
    notes: list[dict[str, str]]
    messages: dict[str, int]
    digests: Digests
    recover: bool
    episode: int | None = None
    piece: str | None = None

    def to_json(self) -> dict[str, Any]:
        result = {"status": "kept" if isinstance(self.result, Kept) else "skipped", **vars(self.result)}
        entry = {
            "recording": self.recording,
            **result,
            "notes": self.notes,
            "messages": self.messages,
            "digest": self.digests.whole,
            "content": self.digests.content,
            "files": self.digests.files,
            "recover": self.recover,
        }
        if isinstance(self.result, Skipped) and self.result.code in COMPARED:
            for key in result:  # as they are decided: last
                entry[key] = entry.pop(key)
        if self.episode is not None:
            entry["episode"] = self.episode
        return entry

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> RecordingReport:
        """The opposite of ``to_json``. Raises KeyError where a key is missing."""
        kind = Kept if entry["status"] == "kept" else Skipped
        return cls(
            entry["recording"],
            kind(**{field.name: entry[field.name] for field in fields(kind)}),
            entry["notes"],
            entry["messages"],
            Digests(entry["digest"], entry["content"], entry["files"]),
            entry["recover"],
            entry.get("episode"),
        )

    def line(self) -> str:
        """The recording and its result as a line of a log."""
        if isinstance(self.result, Kept):
            return f"{self.recording}: {self.result.frames} frames"
        return f"{self.recording}: skipped, {self.result.code}: {self.result.reason}"


def read_reports(output: Path, config: ConvertConfig) -> list[RecordingReport]:
    """What conversion.json in ``output`` has of earlier runs; nothing where there is no output yet.

    Raises UserError where ``output`` is anything else, or was converted with another configuration.
    """
    if not output.exists() or (output.is_dir() and not any(output.iterdir())):
        return []
    try:
        report = json.loads((output / REPORT).read_text())
        if not (output / COUNTS).is_file() or not report["recordings"]:
            raise ValueError
        reports = [RecordingReport.from_json(entry) for entry in report["recordings"]]
        before = dict(report["config"])
    except (OSError, ValueError, KeyError, TypeError):
        raise UserError(f"{output}: is not a dataset of this command; choose another --output") from None
    now = to_dict(config)
    differing = [key for key in now if now[key] != before.get(key)]
    if differing:
        raise UserError(
            f"{output}: was converted with another {', '.join(differing)}; choose another --output, or "
            "convert everything again with --overwrite"
        )
    return reports


def conversion_json(reports: Sequence[RecordingReport], config: ConvertConfig) -> dict[str, Any]:
    """The content of conversion.json."""
    kept = [report.result for report in reports if isinstance(report.result, Kept)]
    return {
        "summary": {
            "kept": len(kept),
            "skipped": len(reports) - len(kept),
            "frames": sum(result.frames for result in kept),
            "fps": config.fps,
        },
        "recordings": [report.to_json() for report in reports],
        "config": to_dict(config),
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """The libraries that decide what comes out."""
    found = {name: version(name) for name in ("av", "numpy", "pillow", "rosbags", "mcap")}
    return found | {"libavcodec": ".".join(map(str, av.library_versions["libavcodec"]))}


def table(reports: Sequence[RecordingReport]) -> str:
    """Every recording in a row: name, frames, kept or why not, and notes."""
    lines = [("recording", "frames", "result")]
    for report in reports:
        frames, result = "-", "kept"
        if isinstance(report.result, Kept):
            frames = str(report.result.frames)
        else:
            result = f"skipped, {report.result.code}: {report.result.reason}"
        notes = "".join(f"; {note['sentence']}" for note in report.notes)
        lines.append((report.recording, frames, result + notes))
    widths = [max(len(line[column]) for line in lines) for column in (0, 1)]
    return "\n".join(
        f"{name:<{widths[0]}}  {frames:>{widths[1]}}  {result}" for name, frames, result in lines
    )
