"""Camera frames of a LeRobot v3.0 dataset: mp4 through PyAV, ``image`` columns through parquet and Pillow.

Everything above asks for frames through ``FrameReader`` (camera, episode, frames -> uint8), so that a cache
can be put beneath it. Frames stay uint8 until they are on the device.
"""

from __future__ import annotations

import io
import math
import os
import struct
from collections import OrderedDict, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from av.video.reformatter import VideoReformatter
from PIL import Image

from ur10e_act.dataset.dataset_error import DatasetError, damaged
from ur10e_act.dataset.resize import resize_frames
from ur10e_act.errors import one_line

TOLERANCE_S = 1e-4  # LeRobotDataset's default: a frame farther away in time is another frame.
SEEK_COST_FRAMES = 4  # A seek (flush, refill the decoder) costs about as much as decoding this many frames.
MAX_OPEN_FILES = 16  # Per process. One decoder holds some 10 MB at 480x640.
MAX_CACHED_IMAGE_BYTES = 128 * 2**20  # Per process: compressed images of the row groups read last.


class FrameReader(Protocol):
    """What gives frames to training, evaluation and statistics."""

    def read(self, camera: str, episode: int, frames: Sequence[int]) -> np.ndarray:
        """Frames of one camera, in the order asked for: uint8 (n, H, W, 3), RGB."""
        ...


@dataclass(frozen=True)
class VideoFile:
    """What the header of an mp4 tells. Times are seconds on the file's clock, ascending."""

    path: Path
    height: int  # px
    width: int  # px
    frame_s: np.ndarray  # float64 (n,): presentation time of each frame
    keyframe_s: np.ndarray  # float64: the same of each frame that decoding can start at


def probe_video(path: Path, demux_all: bool = False) -> VideoFile:
    """Open an mp4, decode two frames of it, and read its frame times from the index in its header.

    The sizes of its boxes tell where the file should end, which shows a cut one without reading it; the
    frames decoded are the first one and that of the last keyframe, since files joined from different codecs
    open well and fail later. Files that carry no index are demuxed, and so are all with ``demux_all``, which
    gives exact times also where frames are reordered (B-frames) at an irregular rate.

    Raises DatasetError when the file is missing, cut, no video, or not decodable.
    """
    if not path.is_file():
        raise damaged(path, "missing, although meta/episodes names it")
    try:
        size, end = path.stat().st_size, _end_of_boxes(path)
        if end > size:
            raise damaged(path, f"cut: {size} bytes are left of {end}")
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise damaged(path, "holds no video stream")
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1
            entries = [] if demux_all else [entry for entry in stream.index_entries if not entry.is_discard]
            first, packets = None, []
            for packet in container.demux(stream):
                if first is None:
                    first = next(iter(packet.decode()), None)
                if packet.pts is not None:
                    packets.append((packet.pts, packet.is_keyframe))
                # No codec here reorders over more than 16 frames: the first one shown is among 32 packets.
                if entries and first is not None and len(packets) >= 32:
                    break
            if first is None or not packets:
                raise damaged(path, "no frame can be decoded")
            if entries:
                # At a constant rate frames are shown on the decoding clock, delayed by the reordering.
                decoded_at = np.array([entry.timestamp for entry in entries], dtype=np.int64)
                shown_at = decoded_at + (min(pts for pts, _ in packets) - decoded_at[0])
                keyframes = shown_at[[entry.is_keyframe for entry in entries]]
            else:
                shown_at = np.sort(np.array([pts for pts, _ in packets], dtype=np.int64))
                keyframes = np.array([pts for pts, is_keyframe in packets if is_keyframe], dtype=np.int64)
            keyframes = keyframes if len(keyframes) else shown_at[:1]
            container.seek(int(keyframes[-1]), stream=stream, backward=True)
            if not any(packet.decode() for packet in container.demux(stream)):
                raise damaged(path, "its last frames cannot be decoded")
            tick_s, height, width = float(stream.time_base), first.height, first.width
    except (av.FFmpegError, OSError, EOFError) as error:
        raise damaged(path, f"cannot be decoded as video ({one_line(error)})") from error
    return VideoFile(path, height, width, shown_at * tick_s, keyframes * tick_s)


def _end_of_boxes(path: Path) -> int:
    """Where the last box of an mp4 says that it ends (byte); 0 for another kind of file."""
    position, size = 0, path.stat().st_size
    with path.open("rb") as file:
        while position + 8 <= size:
            file.seek(position)
            length, kind, long_length = struct.unpack(">I4sQ", file.read(16).ljust(16, b"\0"))
            if position == 0 and kind != b"ftyp":
                return 0
            length = long_length if length == 1 else length
            if length < 8:  # 0: up to the end of the file
                return size
            position += length
    return position


@dataclass(frozen=True)
class VideoSegment:
    """Where one episode of one camera lies in an mp4."""

    path: Path
    start_s: float  # of the episode's timestamp 0 on the file's clock
    frame_period_s: float
    keyframe_s: np.ndarray  # of the whole file, see VideoFile


@dataclass(frozen=True)
class ImageSegment:
    """Where one episode of one camera lies in a parquet file with an ``image`` column."""

    path: Path
    first_row: int  # of the file


class DatasetFrames:
    """The FrameReader of a dataset on disk.

    Open files belong to one process: they are opened on first use, at most ``MAX_OPEN_FILES`` at a time,
    dropped after a fork and left out of a pickle. Decoders run on one thread each, since DataLoader workers
    already use the cores. Not thread-safe.
    """

    def __init__(
        self,
        segments: Mapping[str, Sequence[VideoSegment | ImageSegment]],
        timestamps: Sequence[np.ndarray],
        recorded_shapes: Mapping[str, tuple[int, int]],
        image_size: tuple[int, int] | None,
    ) -> None:
        """Args: where frames lie, by camera and episode; timestamps (s) by episode; sizes as (H, W) px."""
        self._segments = segments
        self._timestamps = timestamps
        self._recorded_shapes = recorded_shapes
        self._image_size = image_size
        self._forget_files()

    def read(self, camera: str, episode: int, frames: Sequence[int]) -> np.ndarray:
        """Frames of one camera in the order asked for, resized to image_size: uint8 (n, H, W, 3) RGB.

        Raises DatasetError when a file cannot be decoded or has no frame within TOLERANCE_S of a timestamp,
        as LeRobotDataset does; KeyError / IndexError for a camera, episode or frame that the dataset does not
        have.
        """
        if self._process != os.getpid():
            # Closing what a fork inherited could wait for threads that only the parent has: keep it.
            self._inherited = (self._decoders, self._parquet_files, self._row_groups)
            self._forget_files()
        segment = self._segments[camera][episode]
        wanted, order = np.unique(np.asarray(frames, dtype=np.int64), return_inverse=True)
        length = len(self._timestamps[episode])
        if len(wanted) and not 0 <= wanted[0] <= wanted[-1] < length:
            raise IndexError(f"episode {episode} has frames 0 to {length - 1}, asked for {list(frames)}")
        if isinstance(segment, VideoSegment):
            # float32 timestamps go through Python floats in LeRobot too: the sum is taken in float64.
            seconds = segment.start_s + self._timestamps[episode][wanted].astype(np.float64)
            images = self._video(segment).read(seconds.tolist())
        else:
            images = [self._image(segment, camera, int(row)) for row in segment.first_row + wanted]
        shape = (*self._recorded_shapes[camera], 3)
        for image in images:
            if image.shape != shape:
                raise DatasetError(
                    f"{segment.path}: a frame of episode {episode} is {image.shape[0]}x{image.shape[1]} px, "
                    f"meta/info.json says {shape[0]}x{shape[1]} for {camera}; correct meta/info.json"
                )
        stacked = np.stack(images) if images else np.empty((0, *shape), np.uint8)
        if self._image_size is not None:
            stacked = resize_frames(stacked, self._image_size)
        return stacked if np.array_equal(order, np.arange(len(stacked))) else stacked[order]

    def _video(self, segment: VideoSegment) -> _VideoDecoder:
        decoder = self._decoders.get(segment.path)
        if decoder is None:
            while len(self._decoders) >= MAX_OPEN_FILES:
                self._decoders.popitem(last=False)[1].close()
            decoder = self._decoders[segment.path] = _VideoDecoder(segment)
        self._decoders.move_to_end(segment.path)
        return decoder

    def _image(self, segment: ImageSegment, camera: str, row: int) -> np.ndarray:
        file = self._parquet_files.get(segment.path)
        if file is None:
            while len(self._parquet_files) >= MAX_OPEN_FILES:
                self._parquet_files.popitem(last=False)[1].close()
            file = self._parquet_files[segment.path] = _ParquetImages(segment.path)
        self._parquet_files.move_to_end(segment.path)
        group, row_in_group = file.locate(row)
        key = (segment.path, camera, group)
        column = self._row_groups.get(key)
        if column is None:
            column = self._row_groups[key] = file.read_group(camera, group)
            while len(self._row_groups) > 1 and sum(c.nbytes for c in self._row_groups.values()) > (
                MAX_CACHED_IMAGE_BYTES
            ):
                self._row_groups.popitem(last=False)
        self._row_groups.move_to_end(key)
        return _decode_image(column[row_in_group].as_py(), segment.path, camera, row)

    def _forget_files(self) -> None:
        self._process = os.getpid()
        self._decoders: OrderedDict[Path, _VideoDecoder] = OrderedDict()
        self._parquet_files: OrderedDict[Path, _ParquetImages] = OrderedDict()
        self._row_groups: OrderedDict[tuple[Path, str, int], pa.ChunkedArray] = OrderedDict()

    def __getstate__(self) -> dict:
        hidden = ("_process", "_decoders", "_parquet_files", "_row_groups", "_inherited")
        return {key: value for key, value in self.__dict__.items() if key not in hidden}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._forget_files()


class _VideoDecoder:
    """One open mp4, which knows where it stands: continuing is cheaper than seeking to a frame near ahead."""

    def __init__(self, segment: VideoSegment) -> None:
        self._path = segment.path
        self._keyframe_s = segment.keyframe_s
        self._period_s = segment.frame_period_s
        try:
            self._container = av.open(str(self._path))
        except (av.FFmpegError, OSError) as error:
            raise damaged(self._path, f"cannot be opened ({one_line(error)})") from error
        self._stream = self._container.streams.video[0]
        self._stream.codec_context.thread_count = 1
        if self._stream.time_base is None:
            raise damaged(self._path, "its video has no time base")
        self._tick_s = float(self._stream.time_base)
        self._reformatter = VideoReformatter()
        self._packets: Iterator[av.Packet] = iter(())
        self._decoded: deque[av.VideoFrame] = deque()
        self._last: av.VideoFrame | None = None
        self._last_s = math.inf  # of self._last; infinite: only a seek continues

    def close(self) -> None:
        self._container.close()

    def read(self, seconds: Sequence[float]) -> list[np.ndarray]:
        """The frames at these times (s, ascending): uint8 (H, W, 3) each."""
        images = []
        for wanted_s in seconds:
            try:
                frame = self._frame_at(wanted_s)
                images.append(self._to_rgb(frame))
            except (av.FFmpegError, OSError, EOFError) as error:
                self._last, self._last_s = None, math.inf
                raise damaged(
                    self._path, f"cannot be decoded at {wanted_s:.3f} s ({one_line(error)})"
                ) from error
        return images

    def _to_rgb(self, frame: av.VideoFrame) -> np.ndarray:
        # Bicubic is what torchcodec, LeRobot's usual decoder, does with chroma of more than 8 bits.
        rgb = self._reformatter.reformat(frame, format="rgb24", interpolation="BICUBIC", threads=1)
        return rgb.to_ndarray()

    def _frame_at(self, wanted_s: float) -> av.VideoFrame:
        if self._last is not None and abs(self._last_s - wanted_s) < TOLERANCE_S:
            return self._last
        if not self._is_near(wanted_s):
            self._seek(wanted_s)
        nearest_s = math.inf
        while (frame := self._next_frame()) is not None:
            if abs(self._last_s - wanted_s) < TOLERANCE_S:
                if frame.is_corrupt:
                    raise damaged(self._path, f"damaged at {wanted_s:.3f} s")
                return frame
            nearest_s = min(nearest_s, self._last_s, key=lambda s: abs(s - wanted_s))
            if self._last_s > wanted_s:
                break
        raise DatasetError(
            f"{self._path}: no frame within {TOLERANCE_S} s of {wanted_s:.4f} s, the nearest is at "
            f"{nearest_s:.4f} s: timestamps and video do not fit; record the dataset again"
        )

    def _is_near(self, wanted_s: float) -> bool:
        """Whether decoding on costs no more than seeking to the keyframe before ``wanted_s``."""
        if self._last_s > wanted_s:
            return False
        before = np.searchsorted(self._keyframe_s, wanted_s + TOLERANCE_S, side="right") - 1
        keyframe_s = self._keyframe_s[max(before, 0)]
        if keyframe_s <= self._last_s:
            return True
        return (wanted_s - self._last_s) <= (wanted_s - keyframe_s) + SEEK_COST_FRAMES * self._period_s

    def _seek(self, wanted_s: float) -> None:
        """Stand before a keyframe that is shown no later than ``wanted_s``."""
        target = math.floor((wanted_s + TOLERANCE_S) / self._tick_s)
        seen = None
        while True:
            self._container.seek(target, stream=self._stream, backward=True)
            self._packets = self._container.demux(self._stream)
            self._decoded.clear()
            self._last, self._last_s = None, -math.inf
            packet = next(self._packets, None)
            if packet is None or packet.pts is None or packet.dts is None:
                return
            # The index is in decoding order: with B-frames a keyframe decoded before the wanted time may be
            # shown after it, and the frames shown before it need an earlier one.
            if packet.pts * self._tick_s < wanted_s + TOLERANCE_S or packet.dts == seen:
                self._decoded.extend(packet.decode())
                return
            seen = packet.dts
            target = packet.dts - 1

    def _next_frame(self) -> av.VideoFrame | None:
        while not self._decoded:
            packet = next(self._packets, None)
            if packet is None:
                # A drained decoder takes no more packets before a seek.
                self._last, self._last_s = None, math.inf
                return None
            self._decoded.extend(packet.decode())
        frame = self._decoded.popleft()
        if frame.pts is None:
            raise damaged(self._path, "a frame has no time")
        self._last, self._last_s = frame, frame.pts * self._tick_s
        return frame


class _ParquetImages:
    """One open parquet file with ``image`` columns."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file = pq.ParquetFile(path, memory_map=True, page_checksum_verification=True)
        except (pa.ArrowException, OSError) as error:
            raise damaged(path, f"cannot be opened ({one_line(error)})") from error
        metadata = self._file.metadata
        rows = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        self._ends = np.cumsum(rows)

    def locate(self, row: int) -> tuple[int, int]:
        """Row of the file -> (row group, row within it)."""
        group = int(np.searchsorted(self._ends, row, side="right"))
        return group, row - (int(self._ends[group - 1]) if group else 0)

    def read_group(self, camera: str, group: int) -> pa.ChunkedArray:
        """The compressed images of one row group: structs of bytes and path."""
        try:
            return self._file.read_row_group(group, columns=[camera], use_threads=False).column(0)
        except (pa.ArrowException, OSError) as error:
            raise damaged(
                self._path, f"row group {group} of {camera} cannot be read ({one_line(error)})"
            ) from error

    def close(self) -> None:
        self._file.close(force=True)


def _decode_image(cell: dict | None, path: Path, camera: str, row: int) -> np.ndarray:
    encoded = cell.get("bytes") if cell else None
    if encoded is None:
        raise DatasetError(
            f"{path}: row {row} of {camera} holds no image bytes; embed the images in the dataset"
        )
    try:
        with Image.open(io.BytesIO(encoded)) as image:
            return np.asarray(image.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise damaged(
            path, f"the image in row {row} of {camera} cannot be decoded ({one_line(error)})"
        ) from error
