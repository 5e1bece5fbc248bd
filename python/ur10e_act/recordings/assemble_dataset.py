"""Joins pieces to a dataset, in the order of the recordings' names, without encoding anything again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ur10e_act.atomic_io import write_file
from ur10e_act.dataset.append import DatasetExtender
from ur10e_act.dataset.features import ACTION, CAMERA_PREFIX, STATE
from ur10e_act.dataset.writer import DatasetWriter, EncodedVideo
from ur10e_act.errors import UserError
from ur10e_act.recordings.conversion_report import (
    COUNTS,
    REPORT,
    Kept,
    RecordingReport,
    Skipped,
    conversion_json,
)
from ur10e_act.recordings.convert_config import ConvertConfig


def choose(reports: Sequence[RecordingReport], known: Sequence[RecordingReport]) -> list[RecordingReport]:
    """All reports by name: ``known`` ones of an earlier run, and what ``reports`` adds or replaces.

    New ones that are copies of another, or have images of another size, are skipped. Raises UserError where
    the recording of an episode has changed.
    """
    entries = {report.recording: report for report in known}
    shapes: dict[str, list[int]] | None = None
    contents: dict[str, str] = {}
    digests: dict[str, str] = {}
    for report in known:
        if isinstance(report.result, Kept):
            shapes = shapes or report.result.picture_shapes
            contents[report.digests.content] = report.recording
            digests[report.recording] = report.digests.whole
    changed = [
        report.recording
        for report in reports
        if report.digests.whole != digests.get(report.recording, report.digests.whole)
    ]
    if changed:
        raise UserError(
            f"{', '.join(changed)}: changed since it was converted; convert everything again with --overwrite"
        )
    for report in reports:
        result = report.result
        if isinstance(result, Kept):
            shapes = shapes or result.picture_shapes
            twin = contents.setdefault(report.digests.content, report.recording)
            if twin != report.recording:
                report = _skipped(report, "duplicate", f"has the same content as {twin}")
            elif result.picture_shapes != shapes:
                sizes = f"{_sizes(result.picture_shapes)}, the others {_sizes(shapes)}"
                report = _skipped(report, "size_differs", f"images are {sizes}; set resize for the camera")
        entries[report.recording] = report
    return [entries[name] for name in sorted(entries)]


def _skipped(report: RecordingReport, code: str, reason: str) -> RecordingReport:
    return replace(report, result=Skipped(code, reason))


def _sizes(shapes: dict[str, list[int]]) -> str:
    return ", ".join(f"{name} {shape[1]}x{shape[0]} px" for name, shape in shapes.items())


def assemble(
    reports: Sequence[RecordingReport], pieces: Path, output: Path, config: ConvertConfig
) -> dict[str, Any]:
    """Makes the dataset at ``output``, or adds to it; returns its conversion.json.

    Kept recordings that have a piece become episodes, numbered from the highest number on. Where none has a
    number yet, what stands at ``output`` is replaced.
    """
    numbers = [report.episode for report in reports if report.episode is not None]
    next_number = max(numbers, default=-1) + 1
    folders, shapes, entries = [], [], []
    for report in reports:
        if isinstance(report.result, Kept):
            shapes.append(report.result.picture_shapes)
            if report.piece:
                folders.append(pieces / report.piece)
                report = replace(report, episode=next_number)
                next_number += 1
        entries.append(report)
    found = conversion_json(entries, config)
    content = (json.dumps(found, indent=2) + "\n").encode()
    if not folders:
        if content != (output / REPORT).read_bytes():
            write_file(output / REPORT, content)
        return found
    arguments = (output, config.fps, config.robot_type, _features(config, shapes[0]))
    writer: DatasetWriter
    if numbers:
        image_counts = json.loads((output / COUNTS).read_text())
        writer = DatasetExtender(*arguments, image_counts, video_codec=config.video_codec)
    else:
        overwrite = output.exists() and any(output.iterdir())
        writer = DatasetWriter(*arguments, video_codec=config.video_codec, overwrite=overwrite)
    with writer:
        for folder in folders:
            writer.add_encoded_episode(*_read_piece(folder, config), config.task)
        image_counts = {name: counts.tolist() for name, counts in writer.image_counts.items()}
        writer.extra_files = {REPORT: content, COUNTS: (json.dumps(image_counts) + "\n").encode()}
    return found


def _features(config: ConvertConfig, shapes: dict[str, list[int]]) -> dict[str, dict[str, Any]]:
    joints = {"dtype": "float32", "shape": [len(config.state_names)], "names": list(config.state_names)}
    described: dict[str, dict[str, Any]] = {STATE: joints, ACTION: joints}
    for name in config.cameras:
        described[CAMERA_PREFIX + name] = {
            "dtype": "video",
            "shape": shapes[name],
            "names": ["height", "width", "channels"],
        }
    return described


def _read_piece(folder: Path, config: ConvertConfig) -> tuple[dict[str, np.ndarray], dict[str, EncodedVideo]]:
    """The vectors, float32 (rows, D), and the videos of a piece, each by feature."""
    columns = {STATE: np.load(folder / "state.npy"), ACTION: np.load(folder / "action.npy")}
    videos = {
        CAMERA_PREFIX + name: EncodedVideo(folder / f"{name}.mp4", np.load(folder / f"{name}.counts.npy"))
        for name in config.cameras
    }
    return columns, videos
