"""Encodes one episode's frames of one camera, as they come, into an mp4 of its own."""

from __future__ import annotations

import os
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from PIL import Image

# Every second frame is a key frame, as in lerobot's own files, and none refers to a later one: a random frame
# costs two decodes at most. One thread, so that results do not depend on the number of cores. H.264 is the
# default because a core decodes 980-1,360 random frames/s of 256 px, of AV1 710-770, and encodes five times
# as fast; AV1 is a quarter to a third smaller. The low crf keeps the detail of small pictures.
# x264's macroblock tree reads memory that it never wrote, so its result may differ from run to run; over two
# frames it gains nothing. Without look-ahead the encoder also keeps no frames back.
ENCODERS = {
    "h264": (
        "libx264",
        {"g": "2", "bf": "0", "crf": "18", "preset": "medium", "x264-params": "mbtree=0:rc-lookahead=0"},
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
        self._colours = VideoReformatter()
        self._container = av.open(str(path), "w")
        self._stream = self._container.add_stream(encoder, fps, options=dict(options))
        self._stream.height, self._stream.width, self._stream.pix_fmt = shape[0], shape[1], "yuv420p"
        self._stream.codec_context.thread_count = 1

    def add(self, frame: np.ndarray) -> None:
        """Appends a frame: uint8 (H, W, 3), RGB. Raises ValueError for any other."""
        if frame.shape != self.shape or frame.dtype != np.uint8:
            raise ValueError(f"frame {self.frames} is {frame.dtype} {frame.shape}, wanted uint8 {self.shape}")
        frame = np.ascontiguousarray(frame)
        self.counts += np.array(Image.fromarray(frame).histogram(), np.int64).reshape(3, 256)
        picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
        # Left to the encoder, the conversion would take a thread for each core.
        yuv = self._colours.reformat(picture, format="yuv420p", threads=1)
        self._container.mux(self._stream.encode(yuv))
        self.frames += 1

    def close(self) -> None:
        """Completes the file; again it does nothing."""
        if self._container is None:
            return
        container, self._container = self._container, None
        try:
            if self.frames:
                container.mux(self._stream.encode())
        finally:
            container.close()
