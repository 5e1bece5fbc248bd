"""The metadata and vectors of one LeRobot v3.0 directory, read and checked for what training needs.

meta/info.json declares the features; meta/episodes says for every episode which rows of which parquet file in
data/ and which seconds of which mp4 in videos/ are its own. Those rows are followed, not computed: files roll
over by size, independently of each other, and lerobot's delete and merge tools leave gaps in their numbers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from ur10e_act.dataset.dataset_error import DatasetError, damaged
from ur10e_act.dataset.features import ACTION, STATE
from ur10e_act.dataset.frame_reader import TOLERANCE_S, ImageSegment, VideoFile, VideoSegment, probe_video
from ur10e_act.dataset.info import DatasetInfo
from ur10e_act.dataset.layout import BOOKKEEPING
from ur10e_act.dataset.parquet_reader import read_table, to_vectors

RATE_TOLERANCE = 0.01  # relative; recorded timestamps jitter, and a wrong fps is off by more


class DatasetFolder:
    """All of a dataset but the frames, read and checked on construction. Raises DatasetError.

    Attributes:
        info: what meta/info.json declares.
        states, actions: float32 (n, S) and (n, A), over all frames.
        timestamps: float32 (n,), s. task_index: int64 (n,).
        lengths: frames of each episode, int64. episode_tasks: the task texts of each.
        tasks: texts by task_index.
        segments: where the frames lie, by camera and episode.
        digest: hex sha256 of the content.
    """

    def __init__(self, info: DatasetInfo, cameras: Sequence[str]) -> None:
        self.info = info
        rows = self._read_episodes()
        self.lengths: np.ndarray = rows["length"]
        self.episode_tasks = [tuple(tasks) for tasks in rows["tasks"]]
        self.tasks = self._read_tasks()
        located = self._read_data(rows, [c for c in cameras if self.info.features[c].dtype == "image"])
        self.segments: dict[str, list[VideoSegment] | list[ImageSegment]] = {}
        for camera in cameras:
            if self.info.features[camera].dtype == "image":
                self.segments[camera] = [ImageSegment(path, row) for path, row in located]
            else:
                self.segments[camera] = self._probe_videos(camera, rows)
        self.digest = self._digest(rows)

    def _episode_files(self) -> list[Path]:
        return sorted((self.info.root / "meta" / "episodes").glob("*/*.parquet"))

    def _read_episodes(self) -> dict[str, np.ndarray]:
        """The columns of meta/episodes that say where episodes lie, ordered by episode_index."""
        folder = self.info.root / "meta" / "episodes"
        names = ["episode_index", "length", "tasks", "data/chunk_index", "data/file_index"]
        names += ["dataset_from_index", "dataset_to_index"]
        for camera, feature in self.info.features.items():
            if feature.dtype == "video":
                ends = ("chunk_index", "file_index", "from_timestamp", "to_timestamp")
                names += [f"videos/{camera}/{end}" for end in ends]
        parts: dict[str, list[np.ndarray]] = {name: [] for name in names}
        for file in self._episode_files():
            table = read_table(file, names)
            for name in names:
                if table[name].null_count:
                    raise damaged(file, f"the column {name} has empty rows")
                if name == "tasks":
                    column = np.empty(len(table), dtype=object)
                    column[:] = table[name].to_pylist()
                else:
                    column = table[name].to_numpy()
                    column = column.astype(np.float64 if name.endswith("timestamp") else np.int64)
                parts[name].append(column)
        if not parts["length"]:
            raise damaged(folder, "holds no parquet file")
        rows = {name: np.concatenate(columns) for name, columns in parts.items()}
        order = np.argsort(rows["episode_index"], kind="stable")
        rows = {name: column[order] for name, column in rows.items()}
        self._check_counts(folder, rows)
        return rows

    def _check_counts(self, folder: Path, rows: Mapping[str, np.ndarray]) -> None:
        episodes, lengths = rows["episode_index"], rows["length"]
        total, total_frames = self.info.total_episodes, self.info.total_frames
        if len(episodes) != total:
            raise damaged(self.info.path, f"total_episodes is {total}, but {folder} lists {len(episodes)}")
        if (wrong := np.flatnonzero(episodes != np.arange(total))).size:
            found = f"entry {wrong[0]} is episode {episodes[wrong[0]]}"
            raise damaged(folder, f"episodes are not numbered 0 to {total - 1}: {found}")
        ends = np.cumsum(lengths)
        for name, expected in (("dataset_from_index", ends - lengths), ("dataset_to_index", ends)):
            if (wrong := np.flatnonzero((rows[name] != expected) | (lengths < 1))).size:
                first = int(wrong[0])
                found = f"episode {first} ({lengths[first]} frames) has {name} {rows[name][first]}"
                raise damaged(folder, f"episodes are not contiguous: {found}, not {expected[first]}")
        if ends[-1] != total_frames:
            raise damaged(
                self.info.path, f"total_frames is {total_frames}, but {folder} lists {ends[-1]} frames in all"
            )

    def _read_tasks(self) -> tuple[str, ...]:
        """Task texts by task_index; lerobot 0.4 calls the text column __index_level_0__, lerobot 0.6 task."""
        path = self.info.root / "meta" / "tasks.parquet"
        table = read_table(path, ["task_index"], everything=True)
        texts = [name for name in ("task", "__index_level_0__") if name in table.column_names]
        if not texts:
            raise damaged(path, "has neither a column task nor __index_level_0__")
        by_index = dict(zip(table["task_index"].to_pylist(), table[texts[0]].to_pylist(), strict=True))
        if set(by_index) != set(range(len(table))):
            raise damaged(path, f"task_index is not numbered 0 to {len(table) - 1}")
        return tuple(str(by_index[index]) for index in range(len(table)))

    def _read_data(
        self, rows: Mapping[str, np.ndarray], image_columns: Sequence[str]
    ) -> list[tuple[Path, int]]:
        """Fill the arrays over all frames; returns file and first row of each episode."""
        total = int(self.lengths.sum())
        self.states = np.empty((total, self.info.features[STATE].shape[0]), dtype=np.float32)
        self.actions = np.empty((total, self.info.features[ACTION].shape[0]), dtype=np.float32)
        self.timestamps = np.empty(total, dtype=np.float32)
        self.task_index = np.empty(total, dtype=np.int64)
        located = [(self.info.root, 0)] * len(self.lengths)
        for place, episodes in _by_file(rows["data/chunk_index"], rows["data/file_index"]).items():
            path = self.info.file("data_path", *place)
            table = read_table(path, [STATE, ACTION, *BOOKKEEPING], image_columns)
            expected = int(self.lengths[episodes].sum())
            if len(table) != expected:
                raise damaged(
                    path, f"has {len(table)} rows; the episodes that lie in it have {expected} frames"
                )
            index = {name: to_vectors(table[name], 1, path, name)[:, 0] for name in BOOKKEEPING}
            states = to_vectors(table[STATE], self.states.shape[1], path, STATE)
            actions = to_vectors(table[ACTION], self.actions.shape[1], path, ACTION)
            first_rows = dict(zip(*np.unique(index["episode_index"], return_index=True), strict=True))
            for episode in episodes:
                first, length = int(first_rows.get(episode, 0)), int(self.lengths[episode])
                start = int(rows["dataset_from_index"][episode])
                here, target = slice(first, first + length), slice(start, start + length)
                self._check_rows(path, episode, start, {name: index[name][here] for name in BOOKKEEPING})
                self._refuse_nan(path, episode, STATE, states[here])
                self._refuse_nan(path, episode, ACTION, actions[here])
                self.states[target], self.actions[target] = states[here], actions[here]
                self.timestamps[target] = index["timestamp"][here]
                self.task_index[target] = index["task_index"][here]
                located[episode] = (path, first)
        return located

    def _check_rows(self, path: Path, episode: int, start: int, index: Mapping[str, np.ndarray]) -> None:
        """Refuse an episode whose rows are not consecutive frames at the dataset's fps."""
        length = int(self.lengths[episode])
        frames = np.arange(length)
        expected = {"episode_index": np.full(length, episode), "frame_index": frames, "index": start + frames}
        for name, values in expected.items():
            if not np.array_equal(index[name], values):
                raise damaged(
                    path,
                    f"the rows of episode {episode} are not its {length} consecutive frames from index "
                    f"{start} on: {name} departs from what meta/episodes says",
                )
        if index["task_index"].min() < 0 or index["task_index"].max() >= len(self.tasks):
            found = f"task_index {index['task_index'].max()}, meta/tasks.parquet has {len(self.tasks)} tasks"
            raise damaged(path, f"episode {episode} has {found}")
        timestamps = index["timestamp"].astype(np.float64)
        if not np.isfinite(timestamps).all() or (np.diff(timestamps) <= 0).any():
            raise damaged(path, f"the timestamps of episode {episode} do not ascend")
        if length > 1:
            rate = (length - 1) / (timestamps[-1] - timestamps[0])
            if abs(rate / self.info.fps - 1) > RATE_TOLERANCE:
                raise DatasetError(
                    f"{self.info.path}: fps is {self.info.fps}, but the timestamps of episode {episode} in "
                    f"{path} run at {rate:.2f} Hz; set fps to the rate that the dataset was recorded at"
                )

    def _refuse_nan(self, path: Path, episode: int, name: str, values: np.ndarray) -> None:
        bad = np.argwhere(~np.isfinite(values))
        if len(bad):
            frame, element = bad[0]
            raise DatasetError(
                f"{path}: {name} of episode {episode}, frame {frame}, is {values[frame, element]} at "
                f"{self.info.features[name].element_names[element]}; delete the episode with lerobot's tools"
            )

    def _probe_videos(self, camera: str, rows: Mapping[str, np.ndarray]) -> list[VideoSegment]:
        """Where the episodes of one camera lie, checked to hold a frame at each of their timestamps."""
        starts, ends = rows[f"videos/{camera}/from_timestamp"], rows[f"videos/{camera}/to_timestamp"]
        segments: dict[int, VideoSegment] = {}
        places = _by_file(rows[f"videos/{camera}/chunk_index"], rows[f"videos/{camera}/file_index"])
        for place, episodes in places.items():
            path = self.info.file("video_path", *place, video_key=camera)
            video = probe_video(path)
            if self._video_problem(video, camera, episodes, starts, ends) is not None:
                # The index may be partial (fragmented mp4), or its times off (B-frames, varying rate).
                video = probe_video(path, demux_all=True)
                problem = self._video_problem(video, camera, episodes, starts, ends)
                if problem is not None:
                    raise DatasetError(f"{path}: {problem}")
            for episode in episodes:
                start_s = float(starts[episode])
                segments[episode] = VideoSegment(path, start_s, 1 / self.info.fps, video.keyframe_s)
        return [segments[episode] for episode in range(len(self.lengths))]

    def _video_problem(
        self, video: VideoFile, camera: str, episodes: Sequence[int], starts: np.ndarray, ends: np.ndarray
    ) -> str | None:
        """What keeps a video from giving every frame of its episodes, and the remedy; or None."""
        height, width = self.info.features[camera].height_width
        count, begin, end = len(video.frame_s), video.frame_s[0], video.frame_s[-1]
        if (video.height, video.width) != (height, width):
            found = f"is {video.height}x{video.width} px, {self.info.path} says {height}x{width} for {camera}"
            return f"{found}; correct meta/info.json"
        rate = 1 / np.median(np.diff(video.frame_s)) if count > 1 else self.info.fps
        if abs(rate / self.info.fps - 1) > RATE_TOLERANCE:
            found = f"runs at {rate:.2f} frames/s, {self.info.path} says fps {self.info.fps}"
            return f"{found}; set fps to the rate that the dataset was recorded at"
        first_frames = np.cumsum(self.lengths) - self.lengths
        for episode in episodes:
            start, length, first = starts[episode], int(self.lengths[episode]), int(first_frames[episode])
            if abs((ends[episode] - start) * self.info.fps - length) > 0.5:
                found = f"meta/episodes gives {start:.3f} to {ends[episode]:.3f} s of it to episode {episode}"
                return f"{found}, which has {length} frames at {self.info.fps} fps; copy the dataset again"
            wanted = start + self.timestamps[first : first + length].astype(np.float64)
            after = np.searchsorted(video.frame_s, wanted)
            near = video.frame_s[np.clip([after - 1, after], 0, count - 1)]
            missing = np.flatnonzero(np.abs(near - wanted).min(axis=0) >= TOLERANCE_S)
            if len(missing):
                found = (
                    f"has no frame at {wanted[missing[0]]:.4f} s for frame {missing[0]} of episode {episode}"
                )
                holds = f"it holds {count} frames from {begin:.3f} to {end:.3f} s"
                return f"{found} ({holds}); copy the file again or record the episode again"
        return None

    def _digest(self, rows: Mapping[str, np.ndarray]) -> str:
        """Hash of the content; images enter by their statistics in meta/episodes and by video sizes."""
        digest = hashlib.sha256()
        features = [[name, ft.dtype, ft.shape, ft.names] for name, ft in sorted(self.info.features.items())]
        digest.update(json.dumps([self.info.fps, self.info.robot_type, features, self.tasks]).encode())
        for array in (self.states, self.actions, self.timestamps, self.task_index, self.lengths):
            digest.update(np.ascontiguousarray(array).data)
        for file in self._episode_files():
            digest.update(file.read_bytes())
        for camera, feature in sorted(self.info.features.items()):
            if feature.dtype == "video":
                chunks, files = rows[f"videos/{camera}/chunk_index"], rows[f"videos/{camera}/file_index"]
                for place in sorted(_by_file(chunks, files)):
                    path = self.info.file("video_path", *place, video_key=camera)
                    size = path.stat().st_size if path.is_file() else 0
                    digest.update(f"{camera} {place} {size}".encode())
        return digest.hexdigest()


def _by_file(chunks: np.ndarray, files: np.ndarray) -> dict[tuple[int, int], list[int]]:
    """(chunk, file) -> the episodes that lie in it."""
    places: Iterable[tuple[int, int]] = zip(chunks.tolist(), files.tolist(), strict=True)
    groups: dict[tuple[int, int], list[int]] = {}
    for episode, place in enumerate(places):
        groups.setdefault(place, []).append(episode)
    return groups
