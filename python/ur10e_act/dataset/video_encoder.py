"""Encodes one episode's frames of one camera, as they come, into an mp4 of its own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import av
import numpy as np
from av.video.reformatter import ColorRange, VideoReformatter
from PIL import Image

from ur10e_act.dataset.pixel_counts import count_pixels

# Every second frame is a key frame, as in lerobot's own files, and none refers to a later one: a random frame
# costs two decodes at most. One thread, so that results do not depend on the number of cores. H.264 is the
# default because a core decodes 980-1,360 random frames/s of 256 px, of AV1 710-770, and encodes three times
# as fast; AV1 is smaller. The low crf keeps the detail of small images; with key frames this close, slower
# presets than veryfast gain neither quality nor size.
# x264's macroblock tree reads memory that it never wrote, so its result may differ from run to run; over two
# frames it gains nothing. Without look-ahead the encoder also keeps no frames back.
ENCODERS: dict[str, tuple[Literal["libx264", "libsvtav1"], dict[str, str]]] = {
    "h264": (
        "libx264",
        {"g": "2", "bf": "0", "crf": "18", "preset": "veryfast", "x264-params": "mbtree=0:rc-lookahead=0"},
    ),
    "av1": ("libsvtav1", {"g": "2", "crf": "20", "preset": "8", "svtav1-params": "lp=1"}),
}


class EpisodeEncoder:
    """Writes frames to ``path`` (mp4); the same frames give the same bytes.

    fps: frames/s. shape: (H, W, 3) of every frame, H and W even. codec: a key of ENCODERS.
    counts: how often each of the 256 levels occurs in R, G and B so far, int64 (3, 256). frames: how many.
    """

    def __init__(self, path: Path, fps: int, shape: tuple[int, int, int], codec: str):
        self.shape, self.frames = tuple(shape), 0
        self.counts = np.zeros((3, 256), np.int64)
        encoder, options = ENCODERS[codec]
        os.environ.setdefault("SVT_LOG", "1")  # errors only; it greets on stderr otherwise
        self._colours, self._rgb = VideoReformatter(), VideoReformatter()
        self._container, self._closed = av.open(str(path), "w"), False
        self._stream = self._container.add_stream(encoder, fps, options=dict(options))
        self._stream.height, self._stream.width, self._stream.pix_fmt = shape[0], shape[1], "yuv420p"
        self._stream.codec_context.thread_count = 1

    def add(self, frame: np.ndarray | av.VideoFrame) -> None:
        """Appends a frame: uint8 (H, W, 3), RGB, or as a JPEG decoder of FFmpeg gives it (YUV, full range).

        Raises ValueError where it has another shape or dtype.
        """
        # Left to the encoder, conversions would take a thread for each core.
        if isinstance(frame, av.VideoFrame):
            self._check((frame.height, frame.width, 3), np.uint8)
            # Straight to the encoder's own kind of YUV: the way through RGB would cost time and colour.
            yuv = self._colours.reformat(
                frame,
                format="yuv420p",
                src_color_range=ColorRange.JPEG,
                dst_color_range=ColorRange.MPEG,
                threads=1,
            )
            plane = self._rgb.reformat(frame, format="rgb0", threads=1).planes[0]
            pixels, size = np.frombuffer(memoryview(plane), np.uint8), (frame.width, frame.height)
            image = Image.frombuffer("RGBX", size, pixels, "raw", "RGBX", plane.line_size, 1)
        else:
            self._check(frame.shape, frame.dtype)
            frame = np.ascontiguousarray(frame)
            yuv = av.VideoFrame.from_ndarray(frame, format="rgb24")
            yuv = self._colours.reformat(yuv, format="yuv420p", threads=1)
            image = Image.fromarray(frame)
        self.counts += count_pixels(image)
        yuv.pts = None  # the frames are counted, whatever they say
        self._container.mux(self._stream.encode(yuv))
        self.frames += 1

    def _check(self, shape: tuple[int, ...], dtype: np.typing.DTypeLike) -> None:
        if tuple(shape) != self.shape or dtype != np.uint8:
            raise ValueError(f"frame {self.frames} is {dtype} {shape}, wanted uint8 {self.shape}")

    def close(self) -> None:
        """Completes the file; again it does nothing."""
        if self._closed:
            return
        self._closed = True
        try:
            if self.frames:
                self._container.mux(self._stream.encode())
        finally:
            self._container.close()
