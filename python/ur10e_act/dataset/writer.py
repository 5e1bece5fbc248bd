"""Writes datasets in LeRobot's format v3.0, episode by episode, with pyarrow and av alone.

Many episodes share a data file (parquet) and a video file (mp4); each kind starts a new file when the next
episode would make it larger than its limit. Memory holds one episode's vectors, and one frame, at a time.
The dataset grows in a hidden directory beside the target; ``close()`` syncs it to disk and gives it its name.

lerobot 0.4.4 and 0.6.1 read the result. It differs from theirs on purpose: statistics are those of all frames
pooled (lerobot averages the episodes' quantiles, and 0.4.4 squares uint8 values for the images' std), and
parquet pages carry checksums.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ur10e_act.atomic_io import Lock, replace_directory, sync_tree
from ur10e_act.dataset.layout import BOOKKEEPING, CHUNK_FILES, DATA_PATH, VIDEO_PATH
from ur10e_act.dataset.lerobot_statistics import image_stats, pooled_stats, vector_stats
from ur10e_act.dataset.parquet_appender import EpisodeTable, ParquetAppender
from ur10e_act.dataset.video_appender import VideoAppender
from ur10e_act.dataset.video_encoder import ENCODERS, EpisodeEncoder
from ur10e_act.errors import UserError

MIB = 2**20


class DatasetWriteError(UserError):
    """An episode or a target directory that cannot be written; the message names it."""


@dataclass(frozen=True)
class EncodedVideo:
    """One camera's frames of an episode: an mp4 of EpisodeEncoder, and its ``counts``, int64 (3, 256)."""

    path: Path
    counts: np.ndarray


class DatasetWriter:
    """Writes one LeRobot v3.0 dataset; in a `with` block it is closed, or after an error discarded.

    root: directory of the dataset; must be missing or empty, unless ``overwrite``, which replaces an older
        LeRobot dataset there at the end.
    fps: whole frames per second; frame i of an episode has timestamp i / fps s.
    features: as in info.json, feature name -> {"dtype", "shape", "names"}; dtype "video" with shape (H, W, 3)
        for cameras, else a numpy dtype with shape (D,). LeRobot's bookkeeping columns are added.
    data_file_size_bytes (columns, uncompressed), video_file_size_bytes: what a file does not grow beyond,
        unless one episode alone does.

    image_counts: for each camera how often each level occurred in R, G and B so far, int64 (3, 256).
    """

    def __init__(
        self,
        root: Path | str,
        fps: int,
        robot_type: str,
        features: Mapping[str, Mapping[str, Any]],
        *,
        video_codec: Literal["h264", "av1"] = "h264",
        data_file_size_bytes: int = 100 * MIB,
        video_file_size_bytes: int = 200 * MIB,
        overwrite: bool = False,
    ):
        if not isinstance(fps, int) or fps < 1:
            raise DatasetWriteError(f"fps must be a whole number of at least 1, not {fps!r}")
        if video_codec not in ENCODERS or ENCODERS[video_codec][0] not in av.codecs_available:
            raise DatasetWriteError(
                f"video codec {video_codec!r} cannot be encoded here; choose one of {', '.join(ENCODERS)}"
            )
        self.root, self.fps, self.robot_type = Path(root).absolute(), fps, robot_type
        self.features = {name: _checked_feature(name, feature) for name, feature in features.items()}
        self.cameras = [name for name, feature in self.features.items() if feature["dtype"] == "video"]
        self.columns = [name for name in self.features if name not in self.cameras]
        self.video_codec = video_codec
        self.data_limit, self.video_limit = data_file_size_bytes, video_file_size_bytes
        self.overwrite = overwrite
        self.extra_files: dict[str, bytes] = {}  # path in the dataset -> content, written by close()
        self.num_episodes = self.num_frames = 0

        self.image_counts: dict[str, np.ndarray] = {}
        self._tasks: dict[str, int] = {}
        self._table_features = {name: self.features[name] for name in self.columns} | BOOKKEEPING
        self._staging = self.root.parent / f".{self.root.name}.partial"
        self._check_target()
        self._lock = self._claim_staging()
        self._closed = False
        self._data = ParquetAppender(self._staging, self._table_features, data_file_size_bytes)
        self._videos = {
            camera: VideoAppender(self._staging, camera, fps, video_file_size_bytes)
            for camera in self.cameras
        }
        self._episodes = EpisodeTable(self._staging)

    def __enter__(self) -> DatasetWriter:
        return self

    def __exit__(self, error_type: type | None, error: object, traceback: object) -> None:
        if error_type is None:
            self.close()
        else:
            self.discard()

    def add_episode(
        self, columns: Mapping[str, np.ndarray], images: Mapping[str, Iterable[np.ndarray]], task: str
    ) -> int:
        """Appends one episode and returns its index.

        columns: for each feature but cameras (n, D), or (n,) where D is 1; cast to the feature's dtype.
        images: for each camera n frames, uint8 (H, W, 3), RGB; any iterable, frames are encoded as they come.
        task: what the robot does, in words.
        Raises DatasetWriteError where the episode does not fit the features. Then, as after any other error,
        everything written so far is discarded and the writer is closed.
        """
        if self._closed:
            raise DatasetWriteError(f"{self.root}: this writer is closed")
        try:
            length = self._common_length(columns)
            self._check_names("images", images, self.cameras)
            videos = {camera: self._encode(camera, images[camera], length) for camera in self.cameras}
            number = self._add_episode(columns, videos, task)
            for video in videos.values():
                video.path.unlink()
            return number
        except BaseException:
            self.discard()
            raise

    def add_encoded_episode(
        self, columns: Mapping[str, np.ndarray], videos: Mapping[str, EncodedVideo], task: str
    ) -> int:
        """``add_episode`` for frames that EpisodeEncoder has encoded, with this writer's codec and fps.

        The files are read, not taken. Raises as ``add_episode`` does.
        """
        if self._closed:
            raise DatasetWriteError(f"{self.root}: this writer is closed")
        try:
            return self._add_episode(columns, videos, task)
        except BaseException:
            self.discard()
            raise

    def close(self) -> None:
        """Completes the dataset and gives it its name. Raises DatasetWriteError if it has no episodes."""
        if self._closed:
            return
        try:
            if not self.num_episodes:
                raise DatasetWriteError(f"{self.root}: a dataset needs at least one episode")
            self._episodes.flush()
            self._close_files()
            self._write_metadata()
            sync_tree(self._staging)
            self._check_target()
            replace_directory(self._staging, self.root, self.root.parent / f".{self.root.name}.replaced")
        except BaseException:
            self.discard()
            raise
        self._release()

    def discard(self) -> None:
        """Removes everything written so far; nothing appears under the dataset's name."""
        if self._closed:
            return
        self._close_files()
        shutil.rmtree(self._staging, ignore_errors=True)
        self._release()

    def _close_files(self) -> None:
        self._data.close()
        for videos in self._videos.values():
            videos.close()
        self._episodes.close()

    def _release(self) -> None:
        self._lock.release()
        self._closed = True

    def _check_target(self) -> None:
        if not self.root.exists() or (self.root.is_dir() and not any(self.root.iterdir())):
            return
        if not self.overwrite:
            raise DatasetWriteError(f"{self.root} exists already; remove it or choose another folder")
        if not (self.root / "meta" / "info.json").is_file():
            raise DatasetWriteError(f"{self.root} exists and is not a LeRobot dataset; it is left as it is")

    def _claim_staging(self) -> Lock:
        """Makes the hidden directory, or clears what a killed writer left; a running one holds its lock."""
        try:
            self._staging.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DatasetWriteError(f"{self._staging}: cannot be created ({error.strerror})") from None
        try:
            lock = Lock(self._staging)
        except BlockingIOError:
            raise DatasetWriteError(f"{self.root}: another process is writing this dataset") from None
        for leftover in self._staging.iterdir():
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()
        return lock

    def _add_episode(
        self, columns: Mapping[str, np.ndarray], videos: Mapping[str, EncodedVideo], task: str
    ) -> int:
        self._check_names("images", videos, self.cameras)
        values = self._checked_columns(columns, task)
        length = len(values["index"])
        row: dict[str, Any] = {"episode_index": self.num_episodes, "tasks": [task], "length": length}
        stats = {name: vector_stats(array) for name, array in values.items()}

        row |= {f"data/{key}": number for key, number in self._data.append(values).items()}
        row |= {"dataset_from_index": self.num_frames, "dataset_to_index": self.num_frames + length}
        for camera in self.cameras:
            video = videos[camera]
            place = self._videos[camera].append(video.path, length)
            row |= {f"videos/{camera}/{key}": value for key, value in place.items()}
            stats[camera] = image_stats(video.counts, length)
            self.image_counts[camera] = self.image_counts.get(camera, 0) + video.counts
        for name in (*self.features, *BOOKKEEPING):
            row |= {f"stats/{name}/{key}": value for key, value in stats[name].items()}
        row |= {"meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0}

        self._episodes.append(row)
        self._tasks.setdefault(task, len(self._tasks))
        self.num_episodes += 1
        self.num_frames += length
        return self.num_episodes - 1

    @property
    def _where(self) -> str:
        return f"{self.root.name}, episode {self.num_episodes}"

    def _check_names(self, kind: str, given: Iterable[str], wanted: Iterable[str]) -> None:
        if set(given) != set(wanted):
            raise DatasetWriteError(
                f"{self._where}: {kind} are {sorted(given)}, the features want {sorted(wanted)}"
            )

    def _common_length(self, columns: Mapping[str, np.ndarray]) -> int:
        self._check_names("columns", columns, self.columns)
        lengths = {name: len(array) for name, array in columns.items()}
        if len(set(lengths.values())) != 1 or min(lengths.values()) < 1:
            raise DatasetWriteError(
                f"{self._where}: columns must have one and the same number of frames, not {lengths}"
            )
        return next(iter(lengths.values()))

    def _checked_columns(self, columns: Mapping[str, np.ndarray], task: str) -> dict[str, np.ndarray]:
        """All columns of the table, (n, D) each in its feature's dtype."""
        where, length = self._where, self._common_length(columns)
        if not task.strip():
            raise DatasetWriteError(f"{where}: the task's text is empty")
        values = {}
        for name in self.columns:
            feature = self.features[name]
            array = np.asarray(columns[name]).astype(feature["dtype"]).reshape(length, -1)
            if list(array.shape[1:]) != feature["shape"]:
                raise DatasetWriteError(
                    f"{where}: {name} has shape {np.shape(columns[name])}, "
                    f"the features want ({length}, {feature['shape'][0]})"
                )
            if not np.isfinite(array).all():
                frame = int(np.argwhere(~np.isfinite(array))[0, 0])
                raise DatasetWriteError(f"{where}: {name} is not finite at frame {frame}")
            values[name] = array
        frame_index = np.arange(length, dtype=np.int64)
        values |= {
            "timestamp": (frame_index / self.fps).astype(np.float32)[:, None],
            "frame_index": frame_index[:, None],
            "episode_index": np.full((length, 1), self.num_episodes, np.int64),
            "index": self.num_frames + frame_index[:, None],
            "task_index": np.full((length, 1), self._tasks.get(task, len(self._tasks)), np.int64),
        }
        return values

    def _encode(self, camera: str, frames: Iterable[np.ndarray], length: int) -> EncodedVideo:
        where = f"{self.root.name}, episode {self.num_episodes}, {camera}"
        path = self._staging / f"{camera}.mp4"
        encoder = EpisodeEncoder(path, self.fps, self.features[camera]["shape"], self.video_codec)
        try:
            for frame in frames:
                encoder.add(frame)
        except ValueError as error:
            raise DatasetWriteError(f"{where}: {error}") from None
        finally:
            encoder.close()
        if encoder.frames != length:
            raise DatasetWriteError(f"{where}: {encoder.frames} images for {length} frames")
        return EncodedVideo(path, encoder.counts)

    def _write_metadata(self) -> None:
        features: dict[str, Any] = {}
        for name, feature in self.features.items():
            features[name] = dict(feature)
            if name in self.cameras:
                height, width, channels = feature["shape"]
                features[name]["info"] = {
                    "video.height": height,
                    "video.width": width,
                    "video.codec": self.video_codec,
                    "video.pix_fmt": "yuv420p",
                    "video.is_depth_map": False,
                    "video.fps": self.fps,
                    "video.channels": channels,
                    "has_audio": False,
                }
        info = {
            "codebase_version": "v3.0",
            "robot_type": self.robot_type,
            "total_episodes": self.num_episodes,
            "total_frames": self.num_frames,
            "total_tasks": len(self._tasks),
            "chunks_size": CHUNK_FILES,
            "data_files_size_in_mb": max(1, round(self.data_limit / MIB)),
            "video_files_size_in_mb": max(1, round(self.video_limit / MIB)),
            "fps": self.fps,
            "splits": {"train": f"0:{self.num_episodes}"},
            "data_path": DATA_PATH,
            "video_path": VIDEO_PATH if self.cameras else None,
            "features": features | BOOKKEEPING,
        }
        meta = self._staging / "meta"
        (meta / "info.json").write_text(json.dumps(info, indent=4) + "\n")
        (meta / "stats.json").write_text(json.dumps(self._pooled_stats(), indent=4) + "\n")
        for path, content in self.extra_files.items():
            (self._staging / path).write_bytes(content)
        pq.write_table(_task_table(self._tasks), meta / "tasks.parquet", write_page_checksum=True)

    def _pooled_stats(self) -> dict[str, dict[str, list]]:
        """Statistics over all frames: of images from their counts, of columns from the files written."""
        stats = {}
        for name in (*self.features, *BOOKKEEPING):
            if name in self.cameras:
                stats[name] = image_stats(self.image_counts[name], self.num_frames)
            else:
                read = partial(self._data.read_back, name)
                stats[name] = pooled_stats(read, self._table_features[name], self.num_frames)
        return stats


def _checked_feature(name: str, feature: Mapping[str, Any]) -> dict[str, Any]:
    dtype, shape, names = feature["dtype"], [int(size) for size in feature["shape"]], feature.get("names")
    if name in BOOKKEEPING or "/" in name:
        raise DatasetWriteError(f"feature {name!r}: the name is taken or contains '/'")
    if dtype == "video":
        if len(shape) != 3 or shape[2] != 3 or shape[0] % 2 or shape[1] % 2:
            raise DatasetWriteError(
                f"feature {name}: a video's shape is (even height, even width, 3), not {shape}"
            )
    elif np.dtype(dtype).kind not in "fiub" or len(shape) != 1 or shape[0] < 1:
        raise DatasetWriteError(f"feature {name}: cannot write dtype {dtype} with shape {shape}")
    elif isinstance(names, (list, tuple)) and len(names) != shape[0]:
        raise DatasetWriteError(f"feature {name}: {len(names)} names for {shape[0]} values")
    return {"dtype": dtype, "shape": shape, "names": list(names) if isinstance(names, tuple) else names}


def _task_table(tasks: dict[str, int]) -> pa.Table:
    """The tasks with their text as pandas index named `task`, which is how both 0.4.4 and 0.6.1 find it."""
    index = {
        "name": "task",
        "field_name": "task",
        "pandas_type": "unicode",
        "numpy_type": "object",
        "metadata": None,
    }
    number = index | {
        "name": "task_index",
        "field_name": "task_index",
        "pandas_type": "int64",
        "numpy_type": "int64",
    }
    pandas = {
        "index_columns": ["task"],
        "column_indexes": [],
        "columns": [number, index],
        "pandas_version": "2.0.0",
    }
    table = pa.table(
        {"task_index": pa.array(tasks.values(), pa.int64()), "task": pa.array(tasks, pa.string())}
    )
    return table.replace_schema_metadata({"pandas": json.dumps(pandas)})
