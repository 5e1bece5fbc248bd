"""One LeRobot v3.0 folder: its metadata and vectors read, and everything refused that cannot be trained on.

meta/info.json declares the features; meta/episodes says for every episode which rows of which parquet file in
data/ and which seconds of which mp4 in videos/ are its own. Those rows are followed, not computed: files roll
over by size, independently of each other, and lerobot's delete and merge tools leave gaps in their numbers.
"""

from __future__ import annotations

import hashlib
import json
import re
import string
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ur10e_act.dataset.features import ACTION, STATE
from ur10e_act.dataset.frame_reader import (
    TOLERANCE_S,
    DatasetError,
    ImageSegment,
    VideoFile,
    VideoSegment,
    damaged,
    probe_video,
)
from ur10e_act.errors import one_line

CODEBASE_VERSION = "v3.0"
INDEX_COLUMNS = ("timestamp", "frame_index", "episode_index", "index", "task_index")
RATE_TOLERANCE = 0.01  # relative; recorded timestamps jitter, and a wrong fps is off by more


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
        """(H, W) px of a camera, whose shape is declared channels last (LeRobot's way) or channels first."""
        channels_first = self.names[:1] in (("channels",), ("channel",))
        height, width = self.shape[1:] if channels_first else self.shape[:2]
        return height, width

    @property
    def element_names(self) -> tuple[str, ...]:
        """Joint names of a vector; numbers where the dataset names none."""
        fits = len(self.names) == self.shape[0]
        return self.names if fits else tuple(str(index) for index in range(self.shape[0]))


class DatasetFolder:
    """Reads meta/info.json on construction and everything else in ``load``; see there for the attributes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.info_path = path / "meta" / "info.json"
        self._info = _read_info(path, self.info_path)
        self.fps: int = self._info["fps"]
        self.robot_type = str(self._info.get("robot_type") or "unknown")
        described = self._info["features"]
        self.features = {name: _feature(self.info_path, name, described[name]) for name in described}
        for name in (STATE, ACTION):
            feature = self.features.get(name)
            if feature is None or feature.is_camera or len(feature.shape) != 1:
                raise DatasetError(
                    f"{self.info_path}: needs a feature {name} that is a vector, has "
                    f"{', '.join(self.features)}; "
                    "rename it or record the dataset with it"
                )
        for name in INDEX_COLUMNS:
            if name not in self.features:
                raise damaged(self.info_path, f"the feature {name}, which LeRobot always writes, is missing")

    def choose_cameras(self, cameras: Sequence[str] | None) -> tuple[str, ...]:
        """Full names of the cameras asked for (None: all RGB ones), in the order of meta/info.json."""
        rgb = tuple(name for name, ft in self.features.items() if ft.is_camera and not ft.is_depth)
        known = ", ".join(rgb) or "none"
        if not (rgb if cameras is None else cameras):
            raise DatasetError(
                f"{self.info_path}: ACT needs at least one RGB camera; the dataset has {known}"
            )
        for camera in cameras or ():
            feature = self.features.get(camera)
            if feature is not None and feature.is_camera and feature.is_depth:
                raise DatasetError(
                    f"{self.info_path}: {camera} is a depth camera, only RGB is read; use {known}"
                )
            if camera not in rgb:
                raise DatasetError(f"{self.info_path}: there is no camera {camera}; use {known}")
        return tuple(name for name in rgb if cameras is None or name in cameras)

    def refuse_differences(self, other: DatasetFolder) -> None:
        """DatasetError unless ``other`` has the same fps and features."""
        found = f"fps is {self.fps} against {other.fps}" if self.fps != other.fps else None
        for name in dict.fromkeys([*other.features, *self.features]):
            mine, theirs = self.features.get(name), other.features.get(name)
            if mine is None or theirs is None:
                found = found or f"the feature {name} is only in the {'latter' if mine is None else 'former'}"
                break
            for part in ("dtype", "shape", "names", "is_depth"):
                here, there = getattr(mine, part), getattr(theirs, part)
                if here != there:
                    found = found or f"{part} of {name} is {here} against {there}"
        if found is not None:
            raise DatasetError(
                f"{self.info_path}: cannot be read as one with {other.info_path}: {found}; "
                "use one of them, or record both alike"
            )

    def load(self, cameras: Sequence[str]) -> None:
        """Read and check all but the frames.

        Sets, over all frames: ``states`` (n, S), ``actions`` (n, A), ``timestamps`` (n,) in float32,
        ``task_index`` (n,) int64; by episode: ``lengths``, ``episode_tasks``; ``tasks`` by task_index;
        ``segments`` by camera and episode; ``digest``, a hex sha256 of the content.
        """
        rows = self._read_episodes()
        self.lengths: np.ndarray = rows["length"]
        self.episode_tasks = [tuple(tasks) for tasks in rows["tasks"]]
        self.tasks = self._read_tasks()
        located = self._read_data(rows, [c for c in cameras if self.features[c].dtype == "image"])
        self.segments: dict[str, list[VideoSegment] | list[ImageSegment]] = {}
        for camera in cameras:
            if self.features[camera].dtype == "image":
                self.segments[camera] = [ImageSegment(path, row) for path, row in located]
            else:
                self.segments[camera] = self._probe_videos(camera, rows)
        self.digest = self._digest(rows)

    def _episode_files(self) -> list[Path]:
        return sorted((self.path / "meta" / "episodes").glob("*/*.parquet"))

    def _read_episodes(self) -> dict[str, np.ndarray]:
        """The columns of meta/episodes that say where episodes lie, ordered by episode_index."""
        folder = self.path / "meta" / "episodes"
        names = ["episode_index", "length", "tasks", "data/chunk_index", "data/file_index"]
        names += ["dataset_from_index", "dataset_to_index"]
        for camera, feature in self.features.items():
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
        total, total_frames = self._info["total_episodes"], self._info["total_frames"]
        if len(episodes) != total:
            raise damaged(self.info_path, f"total_episodes is {total}, but {folder} lists {len(episodes)}")
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
                self.info_path, f"total_frames is {total_frames}, but {folder} lists {ends[-1]} frames in all"
            )

    def _read_tasks(self) -> tuple[str, ...]:
        """Task texts by task_index; lerobot 0.4 calls the text column __index_level_0__, lerobot 0.6 task."""
        path = self.path / "meta" / "tasks.parquet"
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
        self.states = np.empty((total, self.features[STATE].shape[0]), dtype=np.float32)
        self.actions = np.empty((total, self.features[ACTION].shape[0]), dtype=np.float32)
        self.timestamps = np.empty(total, dtype=np.float32)
        self.task_index = np.empty(total, dtype=np.int64)
        located = [(self.path, 0)] * len(self.lengths)
        for place, episodes in _by_file(rows["data/chunk_index"], rows["data/file_index"]).items():
            path = self._file("data_path", *place)
            table = read_table(path, [STATE, ACTION, *INDEX_COLUMNS], image_columns)
            expected = int(self.lengths[episodes].sum())
            if len(table) != expected:
                raise damaged(
                    path, f"has {len(table)} rows; the episodes that lie in it have {expected} frames"
                )
            index = {name: _vectors(table[name], 1, path, name)[:, 0] for name in INDEX_COLUMNS}
            states = _vectors(table[STATE], self.states.shape[1], path, STATE)
            actions = _vectors(table[ACTION], self.actions.shape[1], path, ACTION)
            first_rows = dict(zip(*np.unique(index["episode_index"], return_index=True), strict=True))
            for episode in episodes:
                first, length = int(first_rows.get(episode, 0)), int(self.lengths[episode])
                start = int(rows["dataset_from_index"][episode])
                here, target = slice(first, first + length), slice(start, start + length)
                self._check_rows(path, episode, start, {name: index[name][here] for name in INDEX_COLUMNS})
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
                    f"{start} on: "
                    f"{name} departs from what meta/episodes says",
                )
        if index["task_index"].min() < 0 or index["task_index"].max() >= len(self.tasks):
            found = f"task_index {index['task_index'].max()}, meta/tasks.parquet has {len(self.tasks)} tasks"
            raise damaged(path, f"episode {episode} has {found}")
        timestamps = index["timestamp"].astype(np.float64)
        if not np.isfinite(timestamps).all() or (np.diff(timestamps) <= 0).any():
            raise damaged(path, f"the timestamps of episode {episode} do not ascend")
        if length > 1:
            rate = (length - 1) / (timestamps[-1] - timestamps[0])
            if abs(rate / self.fps - 1) > RATE_TOLERANCE:
                raise DatasetError(
                    f"{self.info_path}: fps is {self.fps}, but the timestamps of episode {episode} in "
                    f"{path} run at "
                    f"{rate:.2f} Hz; set fps to the rate that the dataset was recorded at"
                )

    def _refuse_nan(self, path: Path, episode: int, name: str, values: np.ndarray) -> None:
        bad = np.argwhere(~np.isfinite(values))
        if len(bad):
            frame, element = bad[0]
            raise DatasetError(
                f"{path}: {name} of episode {episode}, frame {frame}, is {values[frame, element]} at "
                f"{self.features[name].element_names[element]}; delete the episode with lerobot's tools"
            )

    def _probe_videos(self, camera: str, rows: Mapping[str, np.ndarray]) -> list[VideoSegment]:
        """Where the episodes of one camera lie, checked to hold a frame at each of their timestamps."""
        starts, ends = rows[f"videos/{camera}/from_timestamp"], rows[f"videos/{camera}/to_timestamp"]
        segments: dict[int, VideoSegment] = {}
        places = _by_file(rows[f"videos/{camera}/chunk_index"], rows[f"videos/{camera}/file_index"])
        for place, episodes in places.items():
            path = self._file("video_path", *place, video_key=camera)
            video = probe_video(path)
            if self._video_problem(video, camera, episodes, starts, ends) is not None:
                # The header's index may be partial (fragmented mp4), or its times be off (B-frames, varying
                # rate).
                video = probe_video(path, demux_all=True)
                problem = self._video_problem(video, camera, episodes, starts, ends)
                if problem is not None:
                    raise DatasetError(f"{path}: {problem}")
            for episode in episodes:
                start_s = float(starts[episode])
                segments[episode] = VideoSegment(path, start_s, 1 / self.fps, video.keyframe_s)
        return [segments[episode] for episode in range(len(self.lengths))]

    def _video_problem(
        self, video: VideoFile, camera: str, episodes: Sequence[int], starts: np.ndarray, ends: np.ndarray
    ) -> str | None:
        """What keeps a video from giving every frame of its episodes, and the remedy; or None."""
        height, width = self.features[camera].height_width
        count, begin, end = len(video.frame_s), video.frame_s[0], video.frame_s[-1]
        if (video.height, video.width) != (height, width):
            found = f"is {video.height}x{video.width} px, {self.info_path} says {height}x{width} for {camera}"
            return f"{found}; correct meta/info.json"
        rate = 1 / np.median(np.diff(video.frame_s)) if count > 1 else self.fps
        if abs(rate / self.fps - 1) > RATE_TOLERANCE:
            found = f"runs at {rate:.2f} frames/s, {self.info_path} says fps {self.fps}"
            return f"{found}; set fps to the rate that the dataset was recorded at"
        first_frames = np.cumsum(self.lengths) - self.lengths
        for episode in episodes:
            start, length, first = starts[episode], int(self.lengths[episode]), int(first_frames[episode])
            if abs((ends[episode] - start) * self.fps - length) > 0.5:
                found = f"meta/episodes gives {start:.3f} to {ends[episode]:.3f} s of it to episode {episode}"
                return f"{found}, which has {length} frames at {self.fps} fps; copy the dataset again"
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
        features = [[name, ft.dtype, ft.shape, ft.names] for name, ft in sorted(self.features.items())]
        digest.update(json.dumps([self.fps, self.robot_type, features, self.tasks]).encode())
        for array in (self.states, self.actions, self.timestamps, self.task_index, self.lengths):
            digest.update(np.ascontiguousarray(array).data)
        for file in self._episode_files():
            digest.update(file.read_bytes())
        for camera, feature in sorted(self.features.items()):
            if feature.dtype == "video":
                chunks, files = rows[f"videos/{camera}/chunk_index"], rows[f"videos/{camera}/file_index"]
                for place in sorted(_by_file(chunks, files)):
                    path = self._file("video_path", *place, video_key=camera)
                    size = path.stat().st_size if path.is_file() else 0
                    digest.update(f"{camera} {place} {size}".encode())
        return digest.hexdigest()

    def _file(self, key: str, chunk_index: int, file_index: int, **names: str) -> Path:
        """The file that ``data_path`` or ``video_path`` of meta/info.json names."""
        numbers = {"chunk_index": chunk_index, "file_index": file_index}
        return self.path / fill_template(self.info_path, key, self._info.get(key), numbers, names)


def fill_template(
    source: Path, key: str, template: Any, numbers: Mapping[str, int], names: Mapping[str, str]
) -> PurePosixPath:
    """Fill in a path template of a foreign meta/info.json, without str.format.

    A width like {chunk_index:>9999999999} would hang str.format, and {x.__class__} would reach into objects.
    Only the given placeholders are known, numbers with a width below 10, and the path must stay inside the
    dataset.
    """
    known = ", ".join(f"{{{name}}}" for name in [*numbers, *names])
    wrong = DatasetError(
        f"{source}: {key} {template!r} is unusable; it must be a path inside the dataset, made of text and "
        f"{known}, "
        "with no more than a width like :03d"
    )
    if not isinstance(template, str):
        raise wrong
    try:
        pieces = list(string.Formatter().parse(template))
    except ValueError:
        raise wrong from None
    text = ""
    for literal, name, spec, conversion in pieces:
        text += literal
        if name is None:
            continue
        width = re.fullmatch(r"(?:0([1-9]))?d?", spec or "")
        if conversion or width is None:
            raise wrong
        if name in numbers:
            text += str(numbers[name]).zfill(int(width[1] or 1))
        elif name in names and not spec:
            text += names[name]
        else:
            raise wrong
    path = PurePosixPath(text)
    if not path.parts or path.is_absolute() or ".." in path.parts or "\0" in text:
        raise wrong
    return path


def read_table(
    path: Path, columns: Sequence[str], image_columns: Sequence[str] = (), everything: bool = False
) -> pa.Table:
    """Read columns of a parquet file (or everything); image columns are checked for, but not read."""
    if not path.is_file():
        raise damaged(path, "missing")
    try:
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            missing = [name for name in [*columns, *image_columns] if name not in file.schema_arrow.names]
            if missing:
                raise damaged(path, f"the column {missing[0]} is missing")
            for name in image_columns:
                _check_images(path, file, name)
            return file.read(None if everything else list(columns))
    except (pa.ArrowException, OSError) as error:
        raise damaged(path, f"cut or damaged, cannot be read as parquet ({one_line(error)})") from error


def _check_images(path: Path, file: pq.ParquetFile, name: str) -> None:
    """Refuse an image column without bytes, as far as the footer tells."""
    kind = file.schema_arrow.field(name).type
    if not pa.types.is_struct(kind) or kind.get_field_index("bytes") < 0:
        raise damaged(path, f"the column {name} holds {kind} instead of images (bytes, path)")
    for group in range(file.metadata.num_row_groups):
        row_group = file.metadata.row_group(group)
        for column in map(row_group.column, range(row_group.num_columns)):
            statistics = column.statistics if column.path_in_schema == f"{name}.bytes" else None
            if statistics is not None and statistics.has_null_count and statistics.null_count:
                raise DatasetError(
                    f"{path}: {statistics.null_count} rows of {name} hold no image bytes; "
                    "write the dataset again with its images embedded"
                )


def _vectors(column: pa.ChunkedArray, width: int, path: Path, name: str) -> np.ndarray:
    """A column as (n, width): fixed-size lists, plain lists (lerobot's tools) or plain values."""
    kind = column.type
    if pa.types.is_fixed_size_list(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind):
        if column.null_count or pc.any(pc.not_equal(pc.list_value_length(column), width)).as_py():
            raise damaged(path, f"{name} has rows that are not {width} values long, as meta/info.json says")
        column = pc.list_flatten(column)
    elif width != 1:
        raise damaged(path, f"{name} holds {kind} instead of {width} values a row, as meta/info.json says")
    if column.null_count:
        raise damaged(path, f"{name} has empty rows")
    if not pa.types.is_floating(column.type) and not pa.types.is_integer(column.type):
        raise damaged(path, f"{name} holds {column.type} instead of numbers")
    return column.to_numpy().reshape(-1, width)


def _by_file(chunks: np.ndarray, files: np.ndarray) -> dict[tuple[int, int], list[int]]:
    """(chunk, file) -> the episodes that lie in it."""
    places: Iterable[tuple[int, int]] = zip(chunks.tolist(), files.tolist(), strict=True)
    groups: dict[tuple[int, int], list[int]] = {}
    for episode, place in enumerate(places):
        groups.setdefault(place, []).append(episode)
    return groups


def _read_info(root: Path, path: Path) -> dict[str, Any]:
    if not root.is_dir():
        raise DatasetError(f"{root}: no such directory; name the one that holds meta/info.json")
    if not path.is_file():
        raise DatasetError(
            f"{path}: missing, so {root} is not a LeRobot dataset; name the folder that holds "
            "meta/, data/ and videos/"
        )
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise damaged(path, f"cannot be read as JSON ({one_line(error)})") from error
    if not isinstance(info, dict):
        raise damaged(path, "is not a JSON object")
    version = info.get("codebase_version")
    if version != CODEBASE_VERSION:
        remedy = "write it as v3.0 with lerobot 0.4 to 0.6"
        if isinstance(version, str) and version.startswith(("v1", "v2")):
            remedy = (
                "convert v2.1 with `python -m lerobot.datasets.v30.convert_dataset_v21_to_v30` of lerobot "
                "0.4, "
                "older ones to v2.1 first"
            )
        raise DatasetError(
            f"{path}: codebase_version is {version!r}, only {CODEBASE_VERSION} is read; {remedy}"
        )
    fps = info.get("fps")
    if isinstance(fps, bool) or not isinstance(fps, int | float) or not 0 < fps < 10_000 or fps != int(fps):
        raise DatasetError(
            f"{path}: fps is {fps!r}; set it to the whole number of frames/s it was recorded at"
        )
    info["fps"] = int(fps)
    for key in ("total_episodes", "total_frames"):
        if isinstance(info.get(key), bool) or not isinstance(info.get(key), int):
            raise damaged(path, f"{key} is {info.get(key)!r} instead of a count")
    if info["total_episodes"] < 1:
        raise DatasetError(f"{path}: the dataset has no episode; record some first")
    if not isinstance(info.get("features"), dict):
        raise damaged(path, "has no features")
    return info


def _feature(path: Path, name: str, described: Any) -> Feature:
    shape = described.get("shape") if isinstance(described, dict) else None
    if not isinstance(shape, list) or not all(isinstance(n, int) and n > 0 for n in shape):
        raise damaged(path, f"the feature {name} has shape {shape!r} instead of positive numbers")
    if not isinstance(described.get("dtype"), str):
        raise damaged(path, f"the feature {name} has no dtype")
    names = described.get("names") or ()
    if isinstance(names, dict):
        # Some recorders write {"motors": [...]} or {"x": 0, "y": 1}.
        lists = [values for values in names.values() if isinstance(values, list)]
        names = [name for values in lists for name in values] if lists else list(names)
    feature = Feature(described["dtype"], tuple(shape), tuple(str(name) for name in names))
    if not feature.is_camera:
        return feature
    if len(shape) != 3:
        raise damaged(path, f"the camera {name} has shape {shape} instead of (H, W, 3)")
    details = {**(described.get("video_info") or {}), **(described.get("info") or {})}
    channels = shape[0] if feature.height_width == tuple(shape[1:]) else shape[2]
    is_depth = channels == 1 or bool(details.get("is_depth_map") or details.get("video.is_depth_map"))
    if channels != 3 and not is_depth:
        raise damaged(path, f"the camera {name} has shape {shape} instead of (H, W, 3)")
    return replace(feature, is_depth=is_depth)
