"""Adds episodes to a finished dataset of DatasetWriter, as if they had been written in the first place.

Files that are full are linked into the new folder; the last one of each kind is copied, by packets and row
groups, and resumes from there. The older dataset stays whole until the new one takes its name.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ur10e_act.dataset.writer import (
    BOOKKEEPING,
    CHUNK_FILES,
    DATA_PATH,
    EPISODES_A_ROW_GROUP,
    EPISODES_PATH,
    VIDEO_PATH,
    DatasetWriteError,
    DatasetWriter,
)


class DatasetExtender(DatasetWriter):
    """A DatasetWriter that begins with the episodes of the dataset at ``root``.

    image_counts: the ``image_counts`` of the writer that wrote it. The other arguments must be what they
    were. Raises DatasetWriteError where the features differ.
    """

    def __init__(
        self,
        root: Path | str,
        fps: int,
        robot_type: str,
        features: Mapping[str, Mapping[str, Any]],
        image_counts: Mapping[str, np.ndarray],
        **options: Any,
    ):
        super().__init__(root, fps, robot_type, features, overwrite=True, **options)
        try:
            self._take_over(image_counts)
        except BaseException:
            self.discard()
            raise

    def _take_over(self, image_counts: Mapping[str, np.ndarray]) -> None:
        info = json.loads((self.root / "meta" / "info.json").read_text())
        for name, feature in self.features.items():
            old = info["features"].get(name, {})
            if [old.get("dtype"), old.get("shape"), old.get("names")] != list(feature.values()):
                raise DatasetWriteError(f"{self.root}: its feature {name} is another one")
        if info["fps"] != self.fps or set(info["features"]) != {*self.features, *BOOKKEEPING}:
            raise DatasetWriteError(f"{self.root}: has other features, or another fps than {self.fps}")

        rows = pq.read_table(self.root / EPISODES_PATH).to_pylist()
        for row in rows:
            self._rows.append(row)
            if len(self._rows) == EPISODES_A_ROW_GROUP:
                self._flush_rows()
        tasks = pq.read_table(self.root / "meta" / "tasks.parquet").to_pydict()
        numbered = sorted(zip(tasks["task_index"], tasks["task"], strict=True))
        self._tasks = {task: number for number, task in numbered}
        self.image_counts = {name: np.array(counts, np.int64) for name, counts in image_counts.items()}
        self.num_episodes, self.num_frames = info["total_episodes"], info["total_frames"]

        self._data.number = _number(rows[-1], "data")
        self._link_full(DATA_PATH, self._data.number)
        self._copy_data(self.root / DATA_PATH.format(**self._data.indices()))
        for camera in self.cameras:
            file, key = self._videos[camera], f"videos/{camera}"
            file.number = _number(rows[-1], key)
            self._link_full(VIDEO_PATH, file.number, video_key=camera)
            last = self.root / VIDEO_PATH.format(video_key=camera, **file.indices())
            self._append_packets(file, camera, last)
            with av.open(str(last)) as source:
                file.size = sum(packet.size for packet in source.demux(video=0) if packet.dts is not None)
            file.frames = round(Fraction(rows[-1][f"{key}/to_timestamp"]) * self.fps)

    def _link_full(self, template: str, last: int, **names: str) -> None:
        for number in range(last):
            path = template.format(
                chunk_index=number // CHUNK_FILES, file_index=number % CHUNK_FILES, **names
            )
            target = self._staging / path
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(self.root / path, target)
            except OSError:
                shutil.copyfile(self.root / path, target)

    def _copy_data(self, last: Path) -> None:
        source, schema = pq.ParquetFile(last), pa.schema(self._table_fields.values())
        self._data.writer = self._parquet_writer(DATA_PATH.format(**self._data.indices()), schema)
        for group in range(source.num_row_groups):
            # Reading makes the file's own metadata part of the schema, and so of what is written.
            table = source.read_row_group(group).cast(schema)
            self._data.writer.write_table(table, row_group_size=len(table))
            self._data.size += len(table) * self._row_bytes()

    def _row_bytes(self) -> int:
        described = [*(self.features[name] for name in self.columns), *BOOKKEEPING.values()]
        return sum(np.dtype(feature["dtype"]).itemsize * feature["shape"][0] for feature in described)


def _number(row: Mapping[str, Any], key: str) -> int:
    return row[f"{key}/chunk_index"] * CHUNK_FILES + row[f"{key}/file_index"]
