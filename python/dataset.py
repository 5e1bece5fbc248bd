"""Reading LeRobot datasets of format v3.0, as written by lerobot 0.4.4 to 0.6.1 and by their delete and merge tools.

``open_dataset`` reads the metadata and all vectors (states, actions, timestamps) and refuses what cannot be trained
on. Frames stay in their files and are decoded on demand. ``ChunkDataset`` gives training samples that equal those of
LeRobotDataset with ``delta_timestamps`` for a chunk of actions.
"""

from __future__ import annotations

import hashlib
import json
import re
import string
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import torch

from frames import (
    COPY_AGAIN,
    TOLERANCE_S,
    DatasetError,
    DatasetFrames,
    FrameReader,
    ImageSegment,
    VideoFile,
    VideoSegment,
    probe_video,
)

__all__ = [
    "ChunkDataset",
    "DatasetError",
    "Episode",
    "Feature",
    "LeRobotV3Dataset",
    "open_dataset",
    "split_episodes",
]

CODEBASE_VERSION = "v3.0"
STATE, ACTION = "observation.state", "action"
INDEX_COLUMNS = ("timestamp", "frame_index", "episode_index", "index", "task_index")


@dataclass(frozen=True)
class Feature:
    """One feature as meta/info.json declares it."""

    dtype: str  # video, image, float32, ...
    shape: tuple[int, ...]
    names: tuple[str, ...]  # empty when not given
    is_depth: bool = False

    @property
    def is_camera(self) -> bool:
        return self.dtype in ("video", "image")

    @property
    def height_width(self) -> tuple[int, int]:
        """(H, W) px of a camera, whether recorded channels last (LeRobot's way) or channels first."""
        if self.names and self.names[0] in ("channels", "channel"):
            return self.shape[1], self.shape[2]
        return self.shape[0], self.shape[1]


@dataclass(frozen=True)
class Episode:
    """One episode. ``index`` counts through all roots; ``first_frame`` likewise."""

    index: int
    length: int  # frames
    tasks: tuple[str, ...]
    root: Path
    first_frame: int


class LeRobotV3Dataset:
    """One or several LeRobot v3.0 folders, read as one. Made by ``open_dataset``.

    Attributes: ``fps``; ``robot_type``; ``features`` by full name; ``cameras`` (full names, in the order of
    meta/info.json); ``image_shapes`` (H, W) px by camera after resizing; ``state_names``, ``action_names`` (joints);
    ``episodes``; ``num_frames``; ``frames`` (a FrameReader); ``tasks`` (texts by task_index); ``fingerprint`` (hex
    sha256 over features, vectors, episode metadata including its image statistics, and video sizes; independent of
    folder names, file times, and of which cameras and image size were asked for).
    """

    def __init__(
        self, parts: Sequence[_Root], cameras: tuple[str, ...], image_size: tuple[int, int] | None
    ) -> None:
        first = parts[0]
        self.fps: int = first.fps
        self.robot_type: str = ", ".join(dict.fromkeys(part.robot_type for part in parts))
        self.features: dict[str, Feature] = first.features
        self.cameras = cameras
        recorded = {camera: first.features[camera].height_width for camera in cameras}
        self.image_shapes = {camera: image_size or recorded[camera] for camera in cameras}
        self.state_names = _joint_names(first.features[STATE], STATE)
        self.action_names = _joint_names(first.features[ACTION], ACTION)
        self.tasks: tuple[str, ...] = tuple(dict.fromkeys(task for part in parts for task in part.tasks))
        digests = [part.digest for part in parts]
        self.fingerprint = digests[0] if len(parts) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()

        self._states = np.concatenate([part.states for part in parts])
        self._actions = np.concatenate([part.actions for part in parts])
        self._timestamps = np.concatenate([part.timestamps for part in parts])
        position = {task: index for index, task in enumerate(self.tasks)}
        if len(parts) == 1:
            self._task_index = first.task_index
        else:
            renumbered = [np.array([position[t] for t in part.tasks], dtype=np.int64) for part in parts]
            self._task_index = np.concatenate([new[part.task_index] for new, part in zip(renumbered, parts)])
        for array in (self._states, self._actions, self._timestamps, self._task_index):
            array.flags.writeable = False
        self.num_frames = len(self._states)

        episodes, first_frame = [], 0
        for part in parts:
            for length, tasks in zip(part.lengths, part.episode_tasks):
                episodes.append(Episode(len(episodes), length, tasks, part.path, first_frame))
                first_frame += length
        self.episodes: tuple[Episode, ...] = tuple(episodes)
        segments = {camera: [s for part in parts for s in part.segments[camera]] for camera in cameras}
        timestamps = [self.read_timestamps(episode.index) for episode in episodes]
        self.frames: FrameReader = DatasetFrames(segments, timestamps, recorded, image_size)

    def read_states(self, episode: int) -> np.ndarray:
        """Joint states of one episode: float32 (n, state_dim), dataset units, read-only."""
        return self._states[self._rows(episode)]

    def read_actions(self, episode: int) -> np.ndarray:
        """Actions of one episode: float32 (n, action_dim), dataset units, read-only."""
        return self._actions[self._rows(episode)]

    def read_timestamps(self, episode: int) -> np.ndarray:
        """Timestamps of one episode from its start: float32 (n,) s, read-only."""
        return self._timestamps[self._rows(episode)]

    def read_task_indices(self, episode: int) -> np.ndarray:
        """Position in ``tasks`` of each frame's task: int64 (n,), read-only."""
        return self._task_index[self._rows(episode)]

    def _rows(self, episode: int) -> slice:
        if not 0 <= episode < len(self.episodes):
            raise IndexError(f"episode {episode} of {len(self.episodes)}")
        start = self.episodes[episode].first_frame
        return slice(start, start + self.episodes[episode].length)


def open_dataset(
    roots: Sequence[Path | str],
    cameras: Sequence[str] | None = None,
    image_size: Sequence[int] | None = None,
) -> LeRobotV3Dataset:
    """Open LeRobot v3.0 folders as one dataset; episodes are numbered through in the order of ``roots``.

    Args:
        roots: dataset folders with the same features and fps.
        cameras: full feature names; None takes all RGB cameras (depth is left out).
        image_size: (height, width) px that frames are resized to; None keeps them as recorded.

    Raises DatasetError, naming file and remedy, for anything that training would stumble over later: missing or cut
    files, another format version, counts, fps, timestamps or videos that disagree, NaN, differing roots. Videos are
    probed through their index, not decoded.
    """
    paths = [Path(root) for root in ([roots] if isinstance(roots, str | Path) else roots)]
    if not paths:
        raise DatasetError("no dataset given: name at least one LeRobot v3.0 folder (data.roots)")
    seen: dict[Path, Path] = {}
    for path in paths:
        if (same := seen.setdefault(path.resolve(), path)) is not path:
            raise DatasetError(f"{path}: the same folder as {same}, given twice; name it once")
    parts = [_Root(path) for path in paths]
    for part in parts[1:]:
        _refuse_differences(parts[0], part)
    chosen = _choose_cameras(parts[0], cameras)
    for part in parts:
        part.load(chosen)
    return LeRobotV3Dataset(parts, chosen, tuple(image_size) if image_size is not None else None)


class _Root:
    """One dataset folder: meta/info.json on construction, everything else by ``load``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.info_path = path / "meta" / "info.json"
        info = _read_info(path, self.info_path)
        self.fps: int = info["fps"]
        self.robot_type = str(info.get("robot_type") or "unknown")
        self.features = {name: _feature(self.info_path, name, ft) for name, ft in info["features"].items()}
        self.info = info
        for name in (STATE, ACTION):
            feature = self.features.get(name)
            if feature is None or feature.is_camera or len(feature.shape) != 1:
                raise DatasetError(
                    f"{self.info_path}: needs a feature {name} that is a vector; "
                    f"it has {', '.join(self.features)}: rename it or record the dataset with it"
                )
        for name in INDEX_COLUMNS:
            if name not in self.features:
                raise DatasetError(f"{self.info_path}: the feature {name} is missing; LeRobot writes it: {COPY_AGAIN}")

    def load(self, cameras: Sequence[str]) -> None:
        """Read and check episodes, vectors and the videos of ``cameras``."""
        table, files = self._read_episodes()
        lengths = table["length"]
        self.lengths: list[int] = lengths.tolist()
        self.tasks = self._read_tasks()
        self.episode_tasks = [tuple(tasks) for tasks in table["tasks"]]
        rows_in_file = self._read_data(table, lengths, cameras)
        self.segments: dict[str, list[VideoSegment | ImageSegment]] = {
            camera: (
                self._video_segments(camera, table, lengths)
                if self.features[camera].dtype == "video"
                else [ImageSegment(path, row) for path, row in rows_in_file]
            )
            for camera in cameras
        }
        self.digest = self._digest(files, table)

    def _read_episodes(self) -> tuple[dict[str, np.ndarray], list[Path]]:
        """Columns of meta/episodes without the statistics, in the order of episode_index."""
        folder = self.path / "meta" / "episodes"
        files = sorted(folder.glob("*/*.parquet"))
        if not files:
            raise DatasetError(f"{folder}: holds no parquet file; {COPY_AGAIN}")
        videos = [name for name, feature in self.features.items() if feature.dtype == "video"]
        wanted = ["episode_index", "length", "tasks", "data/chunk_index", "data/file_index"]
        wanted += ["dataset_from_index", "dataset_to_index"]
        per_video = ("chunk_index", "file_index", "from_timestamp", "to_timestamp")
        wanted += [f"videos/{name}/{column}" for name in videos for column in per_video]
        parts: dict[str, list[np.ndarray]] = {name: [] for name in wanted}
        for file in files:
            read = _read_table(file, wanted)
            for name in wanted:
                if read[name].null_count:
                    raise DatasetError(f"{file}: the column {name} has empty rows; {COPY_AGAIN}")
                if name == "tasks":
                    column = np.empty(len(read), dtype=object)
                    column[:] = [(task,) if isinstance(task, str) else task for task in read[name].to_pylist()]
                else:
                    kind = np.float64 if name.endswith("timestamp") else np.int64
                    column = read[name].to_numpy().astype(kind)
                parts[name].append(column)
        table = {name: np.concatenate(columns) for name, columns in parts.items()}
        order = np.argsort(table["episode_index"], kind="stable")
        table = {name: column[order] for name, column in table.items()}
        self._check_counts(folder, table)
        return table, files

    def _check_counts(self, folder: Path, table: Mapping[str, np.ndarray]) -> None:
        episodes, lengths = table["episode_index"], table["length"]
        total = self.info["total_episodes"]
        if len(episodes) != total:
            raise DatasetError(
                f"{self.info_path}: total_episodes is {total}, but {folder} lists {len(episodes)}; {COPY_AGAIN}"
            )
        wrong = np.flatnonzero(episodes != np.arange(total))
        if len(wrong):
            raise DatasetError(
                f"{folder}: episodes are not numbered 0 to {total - 1} (the {wrong[0] + 1}th is "
                f"{episodes[wrong[0]]}); {COPY_AGAIN}"
            )
        starts, ends = table["dataset_from_index"], table["dataset_to_index"]
        expected = np.concatenate([[0], np.cumsum(lengths)])
        for name, found, right in (("from", starts, expected[:-1]), ("to", ends, expected[1:])):
            wrong = np.flatnonzero((found != right) | (lengths < 1))
            if len(wrong):
                episode = int(wrong[0])
                raise DatasetError(
                    f"{folder}: episodes are not contiguous: episode {episode} ({lengths[episode]} frames) has "
                    f"dataset_{name}_index {found[episode]} instead of {right[episode]}; {COPY_AGAIN}"
                )
        if expected[-1] != self.info["total_frames"]:
            raise DatasetError(
                f"{self.info_path}: total_frames is {self.info['total_frames']}, but the episodes in {folder} have "
                f"{expected[-1]} frames; {COPY_AGAIN}"
            )

    def _read_tasks(self) -> tuple[str, ...]:
        """Task texts by task_index. lerobot 0.4 names the text column __index_level_0__, 0.6 names it task."""
        path = self.path / "meta" / "tasks.parquet"
        table = _read_table(path, ["task_index"], all_columns=True)
        texts = [name for name in ("task", "__index_level_0__") if name in table.column_names]
        if not texts:
            raise DatasetError(f"{path}: has neither a column task nor __index_level_0__; {COPY_AGAIN}")
        by_index = dict(zip(table["task_index"].to_pylist(), table[texts[0]].to_pylist()))
        if sorted(by_index) != list(range(len(table))):
            raise DatasetError(f"{path}: task_index is not numbered 0 to {len(table) - 1}; {COPY_AGAIN}")
        return tuple(str(by_index[index]) for index in range(len(table)))

    def _read_data(
        self, table: Mapping[str, np.ndarray], lengths: np.ndarray, cameras: Sequence[str]
    ) -> list[tuple[Path, int]]:
        """Fill states, actions, timestamps and task_index; returns file and first row of each episode."""
        total = int(lengths.sum())
        self.states = np.empty((total, self.features[STATE].shape[0]), dtype=np.float32)
        self.actions = np.empty((total, self.features[ACTION].shape[0]), dtype=np.float32)
        self.timestamps = np.empty(total, dtype=np.float32)
        self.task_index = np.empty(total, dtype=np.int64)
        images = [camera for camera in cameras if self.features[camera].dtype == "image"]
        located: list[tuple[Path, int]] = [(self.path, 0)] * len(lengths)
        places = list(zip(table["data/chunk_index"].tolist(), table["data/file_index"].tolist()))
        for place, episodes in _group(places).items():
            path = _fill(self, "data_path", chunk_index=place[0], file_index=place[1])
            rows = _read_table(path, [STATE, ACTION, *INDEX_COLUMNS], struct_columns=images)
            if len(rows) != lengths[episodes].sum():
                raise DatasetError(
                    f"{path}: has {len(rows)} rows, but the episodes that meta/episodes places in it have "
                    f"{lengths[episodes].sum()} frames; {COPY_AGAIN}"
                )
            columns = {name: _vectors(rows[name], 1, path, name)[:, 0] for name in INDEX_COLUMNS}
            states = _vectors(rows[STATE], self.states.shape[1], path, STATE)
            actions = _vectors(rows[ACTION], self.actions.shape[1], path, ACTION)
            numbers = columns["episode_index"]
            for episode in episodes:
                first = int(np.argmax(numbers == episode))
                block = slice(first, first + int(lengths[episode]))
                start = int(table["dataset_from_index"][episode])
                self._check_rows(path, episode, int(lengths[episode]), start, columns, block)
                for name, values in ((STATE, states), (ACTION, actions)):
                    _refuse_nan(path, episode, name, _joint_names(self.features[name], name), values[block])
                target = slice(start, start + int(lengths[episode]))
                self.states[target] = states[block]
                self.actions[target] = actions[block]
                self.timestamps[target] = columns["timestamp"][block]
                self.task_index[target] = columns["task_index"][block]
                located[episode] = (path, first)
        return located

    def _check_rows(
        self, path: Path, episode: int, length: int, start: int, columns: Mapping[str, np.ndarray], block: slice
    ) -> None:
        """Refuse an episode whose rows are not one block of consecutive frames at the dataset's fps."""
        frames = np.arange(length)
        for name, right in (("episode_index", np.full(length, episode)), ("frame_index", frames)):
            if not np.array_equal(columns[name][block], right):
                raise DatasetError(
                    f"{path}: the rows of episode {episode} are not {length} consecutive frames ({name} jumps), "
                    f"as meta/episodes says; {COPY_AGAIN}"
                )
        if not np.array_equal(columns["index"][block], start + frames):
            raise DatasetError(
                f"{path}: index of episode {episode} does not run from {start} to {start + length - 1}, as "
                f"meta/episodes says; {COPY_AGAIN}"
            )
        tasks = columns["task_index"][block]
        if tasks.min() < 0 or tasks.max() >= len(self.tasks):
            raise DatasetError(
                f"{path}: episode {episode} has task_index {tasks.max()}, meta/tasks.parquet has "
                f"{len(self.tasks)} tasks; {COPY_AGAIN}"
            )
        timestamps = columns["timestamp"][block].astype(np.float64)
        steps = np.diff(timestamps)
        if not np.isfinite(timestamps).all() or (steps <= 0).any():
            raise DatasetError(f"{path}: timestamps of episode {episode} do not ascend; {COPY_AGAIN}")
        if length > 1 and abs(np.median(steps) * self.fps - 1) > 0.05:
            raise DatasetError(
                f"{self.info_path}: fps is {self.fps}, but timestamps of episode {episode} in {path} advance at "
                f"{1 / np.median(steps):.2f} Hz; set fps to the rate it was recorded at"
            )

    def _video_segments(
        self, camera: str, table: Mapping[str, np.ndarray], lengths: np.ndarray
    ) -> list[VideoSegment | ImageSegment]:
        def column(name: str) -> list:
            return table[f"videos/{camera}/{name}"].tolist()

        starts, ends = column("from_timestamp"), column("to_timestamp")
        found: dict[int, VideoSegment | ImageSegment] = {}
        for place, episodes in _group(list(zip(column("chunk_index"), column("file_index")))).items():
            path = _fill(self, "video_path", chunk_index=place[0], file_index=place[1], video_key=camera)
            video = probe_video(path)
            problem = self._video_problem(video, camera, episodes, starts, ends, lengths)
            if problem is not None:
                # The header's index may be partial (fragmented files) or out of step (B-frames at a varying rate).
                video = probe_video(path, demux_all=True)
                problem = self._video_problem(video, camera, episodes, starts, ends, lengths)
            if problem is not None:
                raise DatasetError(f"{path}: {problem}")
            for episode in episodes:
                found[episode] = VideoSegment(path, starts[episode], 1 / self.fps, video.keyframe_s)
        return [found[episode] for episode in range(len(lengths))]

    def _video_problem(
        self,
        video: VideoFile,
        camera: str,
        episodes: Sequence[int],
        starts: Sequence[float],
        ends: Sequence[float],
        lengths: np.ndarray,
    ) -> str | None:
        """What keeps a video from giving every frame of its episodes, or None."""
        if (video.height, video.width) != self.features[camera].height_width:
            height, width = self.features[camera].height_width
            return (
                f"is {video.height}x{video.width} px, {self.info_path} says {height}x{width} for {camera}; "
                "correct meta/info.json"
            )
        if len(video.frame_s) > 1:
            rate = 1 / np.median(np.diff(video.frame_s))
            if abs(rate / self.fps - 1) > 0.05:
                return f"runs at {rate:.2f} frames/s, {self.info_path} says fps {self.fps}; correct meta/info.json"
        for episode in episodes:
            start, length = starts[episode], int(lengths[episode])
            if abs((ends[episode] - start) * self.fps - length) > 0.5:
                return (
                    f"meta/episodes gives episode {episode} {start:.3f} to {ends[episode]:.3f} s of it, which is not "
                    f"{length} frames at {self.fps} fps; {COPY_AGAIN}"
                )
            first = self._first_rows[episode]
            wanted = start + self.timestamps[first : first + length].astype(np.float64)
            after = np.searchsorted(video.frame_s, wanted)
            last = len(video.frame_s) - 1
            distance = np.minimum(
                np.abs(video.frame_s[np.clip(after, 0, last)] - wanted),
                np.abs(video.frame_s[np.clip(after - 1, 0, last)] - wanted),
            )
            late = np.flatnonzero(distance >= TOLERANCE_S)
            if len(late):
                return (
                    f"has no frame at {wanted[late[0]]:.4f} s for frame {late[0]} of episode {episode} (it holds "
                    f"{len(video.frame_s)} frames, {video.frame_s[0]:.3f} to {video.frame_s[-1]:.3f} s); {COPY_AGAIN}"
                )
        return None

    @property
    def _first_rows(self) -> np.ndarray:
        return np.cumsum([0, *self.lengths])

    def _digest(self, episode_files: Sequence[Path], table: Mapping[str, np.ndarray]) -> str:
        """Hash of the content. Image content enters through its statistics in meta/episodes and video sizes."""
        digest = hashlib.sha256()
        described = {
            name: [ft.dtype, ft.shape, ft.names, ft.is_depth] for name, ft in sorted(self.features.items())
        }
        digest.update(json.dumps([self.fps, self.robot_type, described, self.tasks]).encode())
        for array in (self.states, self.actions, self.timestamps, self.task_index, np.array(self.lengths)):
            digest.update(np.ascontiguousarray(array))
        for file in episode_files:
            for name, column in sorted(_read_table(file, [], all_columns=True).to_pydict().items()):
                digest.update(f"{name}{column}".encode())
        for camera, feature in self.features.items():
            if feature.dtype == "video":
                places = zip(*(table[f"videos/{camera}/{part}"].tolist() for part in ("chunk_index", "file_index")))
                for chunk, file_index in sorted(set(places)):
                    path = _fill(self, "video_path", chunk_index=chunk, file_index=file_index, video_key=camera)
                    digest.update(f"{camera} {path.stat().st_size if path.is_file() else 0}".encode())
        return digest.hexdigest()


def _read_info(root: Path, path: Path) -> dict[str, Any]:
    if not root.is_dir():
        raise DatasetError(f"{root}: no such folder; name the folder that holds meta/info.json")
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DatasetError(
            f"{path}: missing, so {root} is no LeRobot dataset; name the folder that holds meta/, data/ and videos/"
        ) from None
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: cannot be read as JSON ({error}); {COPY_AGAIN}") from error
    if not isinstance(info, dict):
        raise DatasetError(f"{path}: holds no JSON object; {COPY_AGAIN}")
    version = info.get("codebase_version")
    if version != CODEBASE_VERSION:
        older = isinstance(version, str) and version.startswith(("v1", "v2"))
        remedy = (
            "convert it with `python -m lerobot.datasets.v30.convert_dataset_v21_to_v30` of lerobot 0.4 "
            "(v1 and v2.0 to v2.1 first, with lerobot 0.3)"
            if older
            else "export it as v3.0"
        )
        raise DatasetError(f"{path}: codebase_version is {version!r}, only {CODEBASE_VERSION} is read; {remedy}")
    fps = info.get("fps")
    if isinstance(fps, bool) or not isinstance(fps, int | float) or fps != int(fps) or not 0 < fps <= 10_000:
        raise DatasetError(f"{path}: fps is {fps!r}; set it to the whole number of frames/s it was recorded at")
    info["fps"] = int(fps)
    for key in ("total_episodes", "total_frames"):
        if isinstance(info.get(key), bool) or not isinstance(info.get(key), int) or info[key] < 0:
            raise DatasetError(f"{path}: {key} is {info.get(key)!r} instead of a count; {COPY_AGAIN}")
    if info["total_episodes"] == 0:
        raise DatasetError(f"{path}: the dataset has no episode; record some first")
    if not isinstance(info.get("features"), dict):
        raise DatasetError(f"{path}: features are missing; {COPY_AGAIN}")
    return info


def _feature(path: Path, name: str, described: Any) -> Feature:
    wrong = DatasetError(f"{path}: the feature {name} needs a dtype and a shape of positive numbers; {COPY_AGAIN}")
    if not isinstance(described, dict) or not isinstance(described.get("dtype"), str):
        raise wrong
    shape = described.get("shape")
    if not isinstance(shape, list) or not all(isinstance(n, int) and n > 0 for n in shape):
        raise wrong
    names = described.get("names") or ()
    if isinstance(names, dict):
        # LeRobot also writes {"motors": [...]} or {"x": 0, "y": 1}.
        lists = [values for values in names.values() if isinstance(values, list)]
        names = [name for values in lists for name in values] if lists else list(names)
    info = {**(described.get("video_info") or {}), **(described.get("info") or {})}
    feature = Feature(
        described["dtype"],
        tuple(shape),
        tuple(str(name) for name in names),
        bool(info.get("is_depth_map") or info.get("video.is_depth_map")),
    )
    if feature.is_camera:
        if len(shape) != 3:
            raise DatasetError(f"{path}: the camera {name} has shape {shape} instead of (H, W, 3); correct it")
        channels = shape[0] if feature.height_width == tuple(shape[1:]) else shape[2]
        if channels == 1:
            feature = Feature(feature.dtype, feature.shape, feature.names, is_depth=True)
        elif channels != 3 and not feature.is_depth:
            raise DatasetError(f"{path}: the camera {name} has shape {shape} instead of (H, W, 3); correct it")
    return feature


def _joint_names(feature: Feature, prefix: str) -> tuple[str, ...]:
    if len(feature.names) == feature.shape[0]:
        return feature.names
    return tuple(f"{prefix}_{index}" for index in range(feature.shape[0]))


def _choose_cameras(root: _Root, cameras: Sequence[str] | None) -> tuple[str, ...]:
    rgb = tuple(name for name, feature in root.features.items() if feature.is_camera and not feature.is_depth)
    if cameras is None:
        if not rgb:
            raise DatasetError(f"{root.info_path}: no RGB camera among the features; ACT needs at least one")
        return rgb
    for camera in cameras:
        feature = root.features.get(camera)
        if feature is not None and feature.is_camera and feature.is_depth:
            raise DatasetError(f"{root.info_path}: {camera} is a depth camera, which is not read; use {', '.join(rgb)}")
        if camera not in rgb:
            raise DatasetError(f"{root.info_path}: no camera {camera}; it has {', '.join(rgb) or 'none'}")
    if not cameras:
        raise DatasetError(f"{root.info_path}: no camera chosen; it has {', '.join(rgb) or 'none'}")
    return tuple(name for name in rgb if name in cameras)


def _refuse_differences(first: _Root, other: _Root) -> None:
    def refuse(what: str) -> None:
        raise DatasetError(
            f"{other.info_path}: cannot be read as one with {first.info_path}: {what}; train on one of them, or record "
            "both alike"
        )

    if first.fps != other.fps:
        refuse(f"fps is {other.fps} against {first.fps}")
    for name in dict.fromkeys([*first.features, *other.features]):
        here, there = other.features.get(name), first.features.get(name)
        if here is None or there is None:
            refuse(f"only the {'latter' if here is None else 'former'} has the feature {name}")
        for part in ("dtype", "shape", "names", "is_depth"):
            if getattr(here, part) != getattr(there, part):
                refuse(f"{part} of {name} is {getattr(here, part)} against {getattr(there, part)}")


def _fill(root: _Root, key: str, **values: int | str) -> Path:
    """Fill in ``data_path`` or ``video_path`` of a foreign meta/info.json, which str.format must not see.

    A width like {chunk_index:>9999999999} would hang it, and {x.__class__} would reach into objects.
    """
    template = root.info.get(key)
    if not isinstance(template, str) or not template:
        raise DatasetError(f"{root.info_path}: {key} is {template!r} instead of a path template; {COPY_AGAIN}")
    wrong = DatasetError(
        f"{root.info_path}: {key} {template!r} is not usable: it may hold only {', '.join(f'{{{n}}}' for n in values)} "
        "(with a width such as :03d) and must stay inside the dataset"
    )
    text = ""
    try:
        pieces = list(string.Formatter().parse(template))
    except ValueError:
        raise wrong from None
    for literal, name, spec, conversion in pieces:
        text += literal
        if name is None:
            continue
        value = values.get(name)
        if value is None or conversion:
            raise wrong
        if isinstance(value, int):
            width = re.fullmatch(r"(?:0?([1-9]))?d?", spec or "")
            if width is None:
                raise wrong
            text += str(value).zfill(int(width[1] or 1))
        elif spec:
            raise wrong
        else:
            text += value
    relative = PurePosixPath(text)
    if relative.is_absolute() or ".." in relative.parts or "\0" in text or not relative.parts:
        raise wrong
    return root.path / relative


def _group(places: Iterable[tuple[int, int]]) -> dict[tuple[int, int], list[int]]:
    """(chunk, file) -> episodes that lie there."""
    groups: dict[tuple[int, int], list[int]] = {}
    for episode, place in enumerate(places):
        groups.setdefault(place, []).append(episode)
    return groups


def _read_table(
    path: Path, columns: Sequence[str], struct_columns: Sequence[str] = (), all_columns: bool = False
) -> pa.Table:
    """Read columns of a parquet file; ``struct_columns`` (images) must exist and hold bytes, but are not read."""
    if not path.is_file():
        raise DatasetError(f"{path}: missing; {COPY_AGAIN}")
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            names = file.schema_arrow.names
            for name in [*columns, *struct_columns]:
                if name not in names:
                    raise DatasetError(f"{path}: the column {name} is missing; {COPY_AGAIN}")
            for name in struct_columns:
                _check_images(path, file, name)
            table = file.read(None if all_columns else list(columns))
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise DatasetError(f"{path}: cut or damaged, cannot be read as parquet ({reason}); {COPY_AGAIN}") from error
    return table


def _check_images(path: Path, file: pq.ParquetFile, name: str) -> None:
    """Refuse image columns without bytes, as far as the footer tells."""
    kind = file.schema_arrow.field(name).type
    if not pa.types.is_struct(kind) or kind.get_field_index("bytes") < 0:
        raise DatasetError(f"{path}: the column {name} holds {kind} instead of images (bytes, path); {COPY_AGAIN}")
    for group in range(file.metadata.num_row_groups):
        row_group = file.metadata.row_group(group)
        for index in range(row_group.num_columns):
            column = row_group.column(index)
            if column.path_in_schema == f"{name}.bytes" and column.statistics is not None:
                if column.statistics.has_null_count and column.statistics.null_count:
                    raise DatasetError(
                        f"{path}: {column.statistics.null_count} rows of {name} hold no image bytes; "
                        "embed the images in the dataset"
                    )


def _vectors(column: pa.ChunkedArray, width: int, path: Path, name: str) -> np.ndarray:
    """A column as (n, width): fixed-size lists, plain lists (lerobot's tools) or, for width 1, plain values."""
    kind = column.type
    if pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind):
        lengths = pc.list_value_length(column)
        if column.null_count or pc.any(pc.not_equal(lengths, width)).as_py():
            raise DatasetError(
                f"{path}: {name} has rows that are not {width} values long, as meta/info.json says; {COPY_AGAIN}"
            )
        column = pc.list_flatten(column)
    elif width != 1:
        raise DatasetError(f"{path}: {name} holds {kind} instead of {width} values a row; {COPY_AGAIN}")
    if column.null_count:
        raise DatasetError(f"{path}: {name} has empty rows; {COPY_AGAIN}")
    if not (pa.types.is_floating(column.type) or pa.types.is_integer(column.type)):
        raise DatasetError(f"{path}: {name} holds {column.type} instead of numbers; {COPY_AGAIN}")
    return column.to_numpy().reshape(-1, width)


def _refuse_nan(path: Path, episode: int, name: str, joints: Sequence[str], values: np.ndarray) -> None:
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        frame, joint = bad[0]
        raise DatasetError(
            f"{path}: {name} of episode {episode}, frame {frame}, is {values[frame, joint]} for {joints[joint]}; "
            "delete that episode with lerobot's dataset tools or record it again"
        )


class ChunkDataset(torch.utils.data.Dataset):
    """Training samples: one observation and the chunk of actions that follows it.

    Sample i is frame i of the chosen episodes, in their order. Its chunk holds ``chunk_size`` actions of the same
    episode from that frame on; past the episode's end the last one is repeated and ``action_is_pad`` is true. The
    values are those of LeRobotDataset for the same frame.
    """

    def __init__(
        self,
        dataset: LeRobotV3Dataset,
        episodes: Sequence[int],
        chunk_size: int,
        transforms: Callable[[torch.Tensor], torch.Tensor] | None = None,
        seed: int = 0,
    ) -> None:
        """Args: ``transforms`` is applied to each camera's uint8 (3, H, W) by itself, as LeRobotDataset does."""
        missing = [episode for episode in episodes if not 0 <= episode < len(dataset.episodes)]
        if missing:
            raise DatasetError(f"episode {missing[0]} is not in the dataset, which has 0 to {len(dataset.episodes) - 1}")
        if chunk_size < 1:
            raise DatasetError(f"chunk_size is {chunk_size}; it must be at least 1")
        self.dataset = dataset
        self.episodes = tuple(int(episode) for episode in episodes)
        self.chunk_size = chunk_size
        self.transforms = transforms
        self.seed = seed
        self._ends = np.cumsum([dataset.episodes[episode].length for episode in self.episodes], dtype=np.int64)
        # Shared memory: workers that outlive an epoch see set_epoch too.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        """Augmentations are a function of (seed, epoch, i) alone, so a resumed run draws the same ones."""
        self._epoch.fill_(epoch)

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, i: int) -> dict[str, torch.Tensor]:
        if not 0 <= i < len(self):
            raise IndexError(f"sample {i} of {len(self)}")
        position = int(np.searchsorted(self._ends, i, side="right"))
        episode = self.dataset.episodes[self.episodes[position]]
        frame = i - int(self._ends[position]) + episode.length
        actions = self.dataset.read_actions(episode.index)
        steps = np.arange(frame, frame + self.chunk_size)
        sample = {
            STATE: torch.from_numpy(self.dataset.read_states(episode.index)[frame].copy()),
            ACTION: torch.from_numpy(actions[np.minimum(steps, episode.length - 1)]),
            "action_is_pad": torch.from_numpy(steps >= episode.length),
            "timestamp": torch.tensor(self.dataset.read_timestamps(episode.index)[frame]),
            "frame_index": torch.tensor(frame),
            "episode_index": torch.tensor(episode.index),
            "index": torch.tensor(episode.first_frame + frame),
            "task_index": torch.tensor(int(self.dataset.read_task_indices(episode.index)[frame])),
        }
        images = {
            camera: torch.from_numpy(self.dataset.frames.read(camera, episode.index, [frame])[0])
            .permute(2, 0, 1)
            .contiguous()
            for camera in self.dataset.cameras
        }
        return sample | (images if self.transforms is None else self._augment(images, i))

    def _augment(self, images: dict[str, torch.Tensor], i: int) -> dict[str, torch.Tensor]:
        state = torch.get_rng_state()
        seed = np.random.SeedSequence([self.seed, int(self._epoch), i]).generate_state(1, np.uint64)[0]
        try:
            torch.default_generator.manual_seed(int(seed))
            return {camera: self.transforms(image) for camera, image in images.items()}
        finally:
            torch.set_rng_state(state)


def split_episodes(
    episodes: Sequence[int],
    held_out_episodes: Sequence[int] | None,
    held_out_fraction: float,
    seed: int,
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Divide episodes into (training, held-out), both ascending and never empty.

    Held-out are ``held_out_episodes`` or, when None, ``held_out_fraction`` of the episodes (rounded, at least one),
    in the order of a hash of seed and episode: the choice depends on no library's random generator.

    Raises DatasetError when a named episode is not among ``episodes`` or nothing is left for one of the two.
    """
    available = sorted(set(episodes))
    if len(available) < 2:
        raise DatasetError(
            f"{len(available)} episode(s) cannot be divided into training and held-out ones; record at least two"
        )
    if held_out_episodes is None:
        count = max(1, round(held_out_fraction * len(available)))
        ranked = sorted(available, key=lambda e: hashlib.sha256(f"{seed}:{e}".encode()).digest())
        held_out = ranked[:count]
        source = f"held_out_fraction {held_out_fraction} of {len(available)} episodes"
    else:
        held_out = sorted(set(held_out_episodes))
        source = "held_out_episodes"
        missing = [episode for episode in held_out if episode not in available]
        if missing:
            raise DatasetError(
                f"held_out_episodes names episode {missing[0]}, which is not among the {len(available)} episodes used "
                f"({available[0]} to {available[-1]}); correct the list"
            )
        if not held_out:
            raise DatasetError("held_out_episodes is an empty list; name an episode, or null to choose by fraction")
    train = tuple(episode for episode in available if episode not in set(held_out))
    if not train:
        raise DatasetError(f"{source} leaves no episode for training; hold out fewer")
    return train, tuple(sorted(held_out))
