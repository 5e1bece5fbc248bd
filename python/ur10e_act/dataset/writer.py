"""Writes datasets in LeRobot's format v3.0, episode by episode, with pyarrow and av alone.

Many episodes share a data file (parquet) and a video file (mp4); each kind starts a new file when the next
episode would make it larger than its limit. Memory holds one episode's vectors, and one frame, at a time.
The dataset grows in a hidden folder beside the target; `close()` flushes it to disk and gives it its name.

lerobot 0.4.4 and 0.6.1 read the result. It differs from theirs on purpose: statistics are those of all frames
pooled (lerobot averages the episodes' quantiles, and 0.4.4 squares uint8 values for the images' std), and
parquet pages carry checksums.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ur10e_act.atomic_io import exchange, sync, sync_tree
from ur10e_act.dataset.video_encoder import ENCODERS, EpisodeEncoder
from ur10e_act.errors import UserError

DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES_PATH = "meta/episodes/chunk-000/file-000.parquet"
EPISODES_A_ROW_GROUP = 100
CHUNK_FILES = 1000  # files a folder
MIB = 2**20
QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
QUANTILE_BINS = 10_000

# What LeRobot adds to every dataset's features; the writer fills these columns itself.
BOOKKEEPING = {
    "timestamp": {"dtype": "float32", "shape": [1], "names": None},
    "frame_index": {"dtype": "int64", "shape": [1], "names": None},
    "episode_index": {"dtype": "int64", "shape": [1], "names": None},
    "index": {"dtype": "int64", "shape": [1], "names": None},
    "task_index": {"dtype": "int64", "shape": [1], "names": None},
}


class DatasetWriteError(UserError):
    """An episode or a target folder that cannot be written; the message names it."""


@dataclass
class _OpenFile:
    """Where one kind of file (data, or one camera's videos) stands."""

    number: int = -1
    size: int = 0  # bytes so far
    frames: int = 0
    writer: Any = None  # pq.ParquetWriter or av's output container

    def indices(self) -> dict[str, int]:
        return {"chunk_index": self.number // CHUNK_FILES, "file_index": self.number % CHUNK_FILES}

    def close(self) -> None:
        if self.writer is not None:
            self.writer.close()
            self.writer = None


@dataclass(frozen=True)
class EncodedVideo:
    """One camera's frames of an episode: an mp4 of EpisodeEncoder, and its ``counts``, int64 (3, 256)."""

    path: Path
    counts: np.ndarray


class DatasetWriter:
    """Writes one LeRobot v3.0 dataset; in a `with` block it is closed, or after an error discarded.

    root: folder of the dataset; must not exist yet (or be empty), unless `overwrite`, which replaces an older
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

        self._tasks: dict[str, int] = {}
        self.image_counts: dict[str, np.ndarray] = {}
        self._data = _OpenFile()
        self._videos = {camera: _OpenFile() for camera in self.cameras}
        self._episodes: pq.ParquetWriter | None = None
        self._rows: list[dict[str, Any]] = []
        self._table_fields = {name: self._field(name) for name in (*self.columns, *BOOKKEEPING)}
        self._check_target()
        self._claim_staging()

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
        if self._lock is None:
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
        if self._lock is None:
            raise DatasetWriteError(f"{self.root}: this writer is closed")
        try:
            return self._add_episode(columns, videos, task)
        except BaseException:
            self.discard()
            raise

    def close(self) -> None:
        """Completes the dataset and gives it its name. Raises DatasetWriteError if it has no episodes."""
        if self._lock is None:
            return
        try:
            if not self.num_episodes:
                raise DatasetWriteError(f"{self.root}: a dataset needs at least one episode")
            for file in (self._data, *self._videos.values()):
                file.close()
            self._flush_rows()
            self._episodes.close()
            self._write_metadata()
            sync_tree(self._staging)
            self._publish()
        except BaseException:
            self.discard()
            raise
        os.close(self._lock)
        self._lock = None

    def discard(self) -> None:
        """Removes everything written so far; nothing appears under the dataset's name."""
        if self._lock is None:
            return
        for file in (self._data, *self._videos.values()):
            file.close()
        if self._episodes is not None:
            self._episodes.close()
        shutil.rmtree(self._staging, ignore_errors=True)
        os.close(self._lock)
        self._lock = None

    def _check_target(self) -> None:
        if not self.root.exists() or (self.root.is_dir() and not any(self.root.iterdir())):
            return
        if not self.overwrite:
            raise DatasetWriteError(f"{self.root} exists already; remove it or choose another folder")
        if not (self.root / "meta" / "info.json").is_file():
            raise DatasetWriteError(f"{self.root} exists and is not a LeRobot dataset; it is left as it is")

    def _claim_staging(self) -> None:
        """Makes the hidden folder, or takes over what a killed writer left; a living one holds its lock."""
        self._staging = self.root.parent / f".{self.root.name}.partial"
        try:
            self._staging.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise DatasetWriteError(f"{self._staging}: cannot be created ({error.strerror})") from None
        self._lock: int | None = os.open(self._staging, os.O_RDONLY)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            self._lock = None
            raise DatasetWriteError(f"{self.root}: another process is writing this dataset") from None
        for leftover in self._staging.iterdir():
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink()

    def _field(self, name: str) -> pa.Field:
        feature = BOOKKEEPING.get(name) or self.features[name]
        dtype = pa.from_numpy_dtype(np.dtype(feature["dtype"]))
        width = feature["shape"][0]
        return pa.field(name, dtype if width == 1 else pa.list_(dtype, width))

    def _add_episode(self, columns, videos, task) -> int:
        self._check_names("images", videos, self.cameras)
        values = self._checked_columns(columns, task)
        length = len(values["index"])
        row: dict[str, Any] = {"episode_index": self.num_episodes, "tasks": [task], "length": length}
        stats = {name: _vector_stats(array) for name, array in values.items()}

        row |= {f"data/{key}": number for key, number in self._write_data(values).items()}
        row |= {"dataset_from_index": self.num_frames, "dataset_to_index": self.num_frames + length}
        for camera in self.cameras:
            video = videos[camera]
            place = self._append_video(camera, video.path, length)
            row |= {f"videos/{camera}/{key}": value for key, value in place.items()}
            stats[camera] = _image_stats(video.counts, length)
            self.image_counts[camera] = self.image_counts.get(camera, 0) + video.counts
        for name in (*self.features, *BOOKKEEPING):
            row |= {f"stats/{name}/{key}": value for key, value in stats[name].items()}
        row |= {"meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0}

        self._rows.append(row)
        if len(self._rows) == EPISODES_A_ROW_GROUP:
            self._flush_rows()
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

    def _checked_columns(self, columns, task) -> dict[str, np.ndarray]:
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

    def _parquet_writer(self, path: str, schema: pa.Schema) -> pq.ParquetWriter:
        target = self._staging / path
        target.parent.mkdir(parents=True, exist_ok=True)
        return pq.ParquetWriter(target, schema, compression="snappy", write_page_checksum=True)

    def _write_data(self, values: dict[str, np.ndarray]) -> dict[str, int]:
        """Appends the episode's rows as one row group; returns the file's place."""
        arrays = []
        for name in self._table_fields:
            flat = pa.array(values[name].ravel())
            width = values[name].shape[1]
            arrays.append(flat if width == 1 else pa.FixedSizeListArray.from_arrays(flat, width))
        table = pa.Table.from_arrays(arrays, schema=pa.schema(self._table_fields.values()))

        file = self._data
        size = sum(array.nbytes for array in values.values())
        if file.writer is None or file.size + size > self.data_limit:
            file.close()
            file.number, file.size = file.number + 1, 0
            file.writer = self._parquet_writer(DATA_PATH.format(**file.indices()), table.schema)
        file.writer.write_table(table, row_group_size=len(table))
        file.size += size
        return file.indices()

    def _flush_rows(self) -> None:
        """Appends the buffered episodes' rows to meta/episodes as one row group."""
        if not self._rows:
            return
        table = pa.table({key: pa.array([row[key] for row in self._rows]) for key in self._rows[0]})
        if self._episodes is None:
            self._episodes = self._parquet_writer(EPISODES_PATH, table.schema)
        self._episodes.write_table(table)
        self._rows.clear()

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

    def _append_video(self, camera: str, episode: Path, length: int) -> dict:
        """Appends the episode's mp4 to the camera's video, packet by packet; returns its place."""
        file = self._videos[camera]
        with av.open(str(episode)) as source:
            # The limit counts images alone, so that a finished file still tells how full it is.
            size = sum(packet.size for packet in source.demux(video=0) if packet.dts is not None)
        if file.writer is None or file.size + size > self.video_limit:
            file.close()
            file.number, file.size, file.frames = file.number + 1, 0, 0
        self._append_packets(file, camera, episode)
        place = {
            **file.indices(),
            "from_timestamp": file.frames / self.fps,
            "to_timestamp": (file.frames + length) / self.fps,
        }
        file.size += size
        file.frames += length
        return place

    def _append_packets(self, file: _OpenFile, camera: str, episode: Path) -> None:
        if file.writer is None:
            target = self._staging / VIDEO_PATH.format(video_key=camera, **file.indices())
            target.parent.mkdir(parents=True, exist_ok=True)
            file.writer = av.open(str(target), "w", options={"movflags": "+faststart", "fflags": "+bitexact"})
        with av.open(str(episode)) as source:
            stream = source.streams.video[0]
            if not file.writer.streams.video:
                file.writer.add_stream_from_template(stream, opaque=True)
            # The episode was encoded by itself: it starts with a key frame wherever it lies in the file.
            offset = round(Fraction(file.frames, self.fps) / stream.time_base)
            for packet in source.demux(stream):
                if packet.dts is None:
                    continue
                packet.pts, packet.dts = packet.pts + offset, packet.dts + offset
                packet.stream = file.writer.streams.video[0]
                file.writer.mux(packet)

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
        """Statistics over all frames: of images from their histograms, of columns from the files written.

        Quantiles of columns are exact to one of QUANTILE_BINS equal steps from minimum to maximum: two passes
        over the files, and no more memory than one episode takes.
        """
        stats = {}
        for name in (*self.features, *BOOKKEEPING):
            if name in self.cameras:
                stats[name] = _image_stats(self.image_counts[name], self.num_frames)
                continue
            low = high = None
            total = 0.0
            for array in self._read_back(name):
                low = array.min(0) if low is None else np.minimum(low, array.min(0))
                high = array.max(0) if high is None else np.maximum(high, array.max(0))
                total = total + array.sum(0)
            mean, span = total / self.num_frames, np.where(high > low, high - low, 1.0)
            squares = 0.0
            histogram = np.zeros((len(low), QUANTILE_BINS), np.int64)
            for array in self._read_back(name):
                squares = squares + ((array - mean) ** 2).sum(0)
                bins = np.minimum((array - low) / span * QUANTILE_BINS, QUANTILE_BINS - 1).astype(np.int64)
                for dimension, row in enumerate(histogram):
                    row += np.bincount(bins[:, dimension], minlength=QUANTILE_BINS)
            quantiles = {}
            for key, share in QUANTILES.items():
                place = [_histogram_quantile(row, share) for row in histogram]
                quantiles[key] = np.minimum(low + np.array(place) / QUANTILE_BINS * span, high)
            integer = np.dtype(self._numpy_dtype(name)).kind in "iub"
            extremes = (low.astype(np.int64), high.astype(np.int64)) if integer else (low, high)
            stats[name] = {
                "min": extremes[0].tolist(),
                "max": extremes[1].tolist(),
                "mean": mean.tolist(),
                "std": np.sqrt(squares / self.num_frames).tolist(),
                "count": [self.num_frames],
                **{key: value.tolist() for key, value in quantiles.items()},
            }
        return stats

    def _numpy_dtype(self, name: str) -> str:
        return (BOOKKEEPING.get(name) or self.features[name])["dtype"]

    def _read_back(self, name: str) -> Iterable[np.ndarray]:
        """The column's values, float64 (n, D), an episode at a time."""
        for path in sorted((self._staging / "data").glob("*/*.parquet")):
            file = pq.ParquetFile(path)
            for group in range(file.num_row_groups):
                column = file.read_row_group(group, columns=[name]).column(0).combine_chunks()
                flat = column.flatten() if pa.types.is_fixed_size_list(column.type) else column
                yield flat.to_numpy(zero_copy_only=False).astype(np.float64).reshape(len(column), -1)

    def _publish(self) -> None:
        """Renames the finished folder; an older dataset steps aside first and is removed last."""
        older = self.root.parent / f".{self.root.name}.replaced"
        shutil.rmtree(older, ignore_errors=True)
        self._check_target()
        if self.root.exists() and exchange(self._staging, self.root):
            self._staging.rename(older)
        else:
            if self.root.exists():
                self.root.rename(older)
            self._staging.rename(self.root)
        sync(self.root.parent)
        shutil.rmtree(older, ignore_errors=True)


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


def _vector_stats(array: np.ndarray) -> dict[str, list]:
    """LeRobot's statistics of one episode's column (n, D), each a list of D numbers."""
    exact = array.astype(np.int64 if array.dtype.kind in "iub" else np.float64)
    values = array.astype(np.float64)
    return {
        "min": exact.min(0).tolist(),
        "max": exact.max(0).tolist(),
        "mean": values.mean(0).tolist(),
        "std": values.std(0).tolist(),
        "count": [len(array)],
        **{key: np.quantile(values, share, axis=0).tolist() for key, share in QUANTILES.items()},
    }


def _image_stats(counts: np.ndarray, frames: int) -> dict[str, list]:
    """Statistics in [0, 1], shape (3, 1, 1) each, from how often each of the 256 levels occurs, (3, 256)."""
    levels = np.arange(256)
    pixels = counts.sum(1)
    mean = counts @ levels / pixels
    variance = (counts * (levels - mean[:, None]) ** 2).sum(1) / pixels
    cumulative = counts.cumsum(1)
    results = {
        "min": (counts > 0).argmax(1),
        "max": 255 - (counts[:, ::-1] > 0).argmax(1),
        "mean": mean,
        "std": np.sqrt(variance),
    }
    quantiles = {key: (cumulative < share * pixels[:, None]).sum(1) for key, share in QUANTILES.items()}
    shaped = {key: (value / 255).reshape(3, 1, 1).tolist() for key, value in (results | quantiles).items()}
    return {
        **{key: shaped[key] for key in results},
        "count": [frames],
        **{key: shaped[key] for key in quantiles},
    }


def _histogram_quantile(histogram: np.ndarray, share: float) -> float:
    """Where, in bins from the left, `share` of the counts is reached."""
    cumulative = histogram.cumsum()
    target = share * cumulative[-1]
    number = int(np.searchsorted(cumulative, target))
    return number + (target - (cumulative[number] - histogram[number])) / histogram[number]


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
