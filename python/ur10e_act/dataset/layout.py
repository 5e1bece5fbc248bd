"""Where the files of a LeRobot v3.0 dataset lie, and how it numbers them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES_PATH = "meta/episodes/chunk-000/file-000.parquet"
CHUNK_FILES = 1000  # files a directory

# What LeRobot adds to every dataset's features; the writer fills these columns itself.
BOOKKEEPING: dict[str, dict[str, Any]] = {
    "timestamp": {"dtype": "float32", "shape": [1], "names": None},
    "frame_index": {"dtype": "int64", "shape": [1], "names": None},
    "episode_index": {"dtype": "int64", "shape": [1], "names": None},
    "index": {"dtype": "int64", "shape": [1], "names": None},
    "task_index": {"dtype": "int64", "shape": [1], "names": None},
}


def indices(number: int) -> dict[str, int]:
    """The chunk_index and file_index of a file; ``number`` counts through all chunks."""
    return {"chunk_index": number // CHUNK_FILES, "file_index": number % CHUNK_FILES}


def file_number(row: Mapping[str, Any], prefix: str) -> int:
    """The number of the file that a row of meta/episodes names with ``prefix``, such as "data"."""
    return row[f"{prefix}/chunk_index"] * CHUNK_FILES + row[f"{prefix}/file_index"]


def link_files(source: Path, target: Path, template: str, count: int, **names: str) -> None:
    """Give ``target`` the first ``count`` files of ``source`` named by ``template``: links, else copies."""
    for number in range(count):
        path = template.format(**indices(number), **names)
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(source / path, target / path)
        except OSError:
            shutil.copyfile(source / path, target / path)
