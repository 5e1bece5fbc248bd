"""Adds episodes to a finished dataset of DatasetWriter, as if they had been written in the first place.

Full files are linked into the new directory; the last one of each kind is copied, by packets and row groups,
and continues there. The older dataset stays whole until the new one takes its name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from ur10e_act.dataset.layout import BOOKKEEPING, EPISODES_PATH, file_number
from ur10e_act.dataset.writer import DatasetWriteError, DatasetWriter


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
            self._episodes.append(row)
        tasks = pq.read_table(self.root / "meta" / "tasks.parquet").to_pydict()
        numbered = sorted(zip(tasks["task_index"], tasks["task"], strict=True))
        self._tasks = {task: number for number, task in numbered}
        self.image_counts = {name: np.array(counts, np.int64) for name, counts in image_counts.items()}
        self.num_episodes, self.num_frames = info["total_episodes"], info["total_frames"]

        self._data.resume(self.root, file_number(rows[-1], "data"))
        for camera, videos in self._videos.items():
            prefix = f"videos/{camera}"
            frames = round(Fraction(rows[-1][f"{prefix}/to_timestamp"]) * self.fps)
            videos.resume(self.root, file_number(rows[-1], prefix), frames)
