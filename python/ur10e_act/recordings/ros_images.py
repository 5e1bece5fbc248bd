"""Images in ROS 2 messages: sensor_msgs Image and CompressedImage, to RGB.

Depth (16UC1 in mm, 32FC1 in m, REP 118) becomes grey over a fixed range, the same in every image. Formats
of compressed images are those of image_transport_plugins: "ORIGINAL; jpeg compressed ...", "...; png
compressed ...", "...; compressedDepth png". The bytes are ordinary JPEG or PNG: "compressed bgr8" there says
what the sender held before, and swaps nothing.
"""

from __future__ import annotations

import io
import struct
from typing import Any

import av
import numpy as np
from PIL import Image, UnidentifiedImageError

from ur10e_act.recordings.fault import Fault

COLOURS = {"rgb8": (0, 1, 2), "bgr8": (2, 1, 0), "rgba8": (0, 1, 2), "bgra8": (2, 1, 0), "mono8": (0, 0, 0)}
CHANNELS = {"rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4, "mono8": 1}
DEPTH_MM, DEPTH_M = "16UC1", "32FC1"
JPEG_FORMATS = ("yuvj420p", "yuvj422p", "yuvj444p", "gray")
IMAGE_TYPES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")


def decode_image(message: Any, near_m: float, far_m: float) -> np.ndarray:
    """uint8 (H, W, 3), RGB, of a sensor_msgs/Image; rows may be padded, numbers big-endian.

    near_m, far_m: distances that become 0 and 255 in depth images. Raises Fault (bad_picture,
    unknown_encoding).
    """
    encoding, height, width = message.encoding, int(message.height), int(message.width)
    if encoding in CHANNELS:
        dtype, channels = np.dtype(np.uint8), CHANNELS[encoding]
    elif encoding in (DEPTH_MM, DEPTH_M):
        order = ">" if message.is_bigendian else "<"
        dtype, channels = np.dtype(order + ("u2" if encoding == DEPTH_MM else "f4")), 1
    else:
        known = ", ".join([*CHANNELS, DEPTH_MM, DEPTH_M])
        raise Fault("unknown_encoding", f"images are {encoding!r}; known are {known}")
    row, step = width * channels * dtype.itemsize, int(message.step)
    data = np.asarray(message.data)
    if height < 1 or width < 1 or step < row or data.size < (height - 1) * step + row:
        raise Fault(
            "bad_picture", f"{data.size} bytes of {width}x{height} px {encoding} with rows of {step} bytes"
        )
    # The padding of the last row may be missing.
    rows = np.lib.stride_tricks.as_strided(data, (height, row), (step, 1))
    pixels = np.ascontiguousarray(rows).view(dtype).reshape(height, width, channels)
    if encoding == "rgb8":
        return pixels
    if encoding in COLOURS:
        return np.ascontiguousarray(pixels[..., COLOURS[encoding]])
    return grey(pixels[..., 0] * (0.001 if encoding == DEPTH_MM else 1.0), near_m, far_m)


class CompressedDecoder:
    """Decodes sensor_msgs/CompressedImage: JPEG, PNG, compressedDepth png.

    near_m, far_m: distances that become 0 and 255 in depth images.
    """

    def __init__(self, near_m: float, far_m: float):
        self.near_m, self.far_m = near_m, far_m
        self._jpeg = av.CodecContext.create("mjpeg", "r")
        self._jpeg.thread_count = 1
        # Damage would be painted over otherwise.
        self._jpeg.options = {"err_detect": "explode"}

    def decode(self, message: Any) -> np.ndarray | av.VideoFrame:
        """uint8 (H, W, 3), RGB; of a JPEG the decoder's own frame (YUV, full range).

        Raises Fault (bad_picture, unknown_encoding).
        """
        kind, data = message.format, np.asarray(message.data).tobytes()
        if data[:3] == b"\xff\xd8\xff":
            try:
                frames = self._jpeg.decode(av.Packet(data))
            except av.FFmpegError as error:
                raise Fault("bad_picture", f"a {kind!r} cannot be decoded ({error.strerror})") from error
            if len(frames) == 1 and frames[0].format.name in JPEG_FORMATS:
                return frames[0]
        return self._decode_png(kind, data)

    def _decode_png(self, kind: str, data: bytes) -> np.ndarray:
        original, _, transport = (piece.strip() for piece in kind.partition(";"))
        quantization = None
        if "compressedDepth" in transport:
            if "rvl" in transport.lower() or len(data) <= 12:
                raise Fault("unknown_encoding", f"images are {kind!r}; known is compressedDepth png")
            quantization, data = struct.unpack("<ff", data[4:12]), data[12:]
        try:
            with Image.open(io.BytesIO(data), formats=("JPEG", "PNG")) as image:
                if image.mode.startswith("I"):
                    depth = np.asarray(image).astype(np.float64)
                elif original in (DEPTH_MM, DEPTH_M):
                    raise Fault("unknown_encoding", f"images are {kind!r}, but hold {image.mode}")
                else:
                    return np.asarray(image.convert("RGB"))
        except (
            OSError,
            SyntaxError,
            ValueError,
            UnidentifiedImageError,
            Image.DecompressionBombError,
        ) as error:
            raise Fault("bad_picture", f"a {kind!r} cannot be decoded ({error})") from error
        if original == DEPTH_M and quantization:
            # compressed_depth_image_transport keeps a / depth + b.
            a, b = quantization
            with np.errstate(divide="ignore", invalid="ignore"):
                metres = np.where(depth > 0, a / (depth - b), 0.0)
            return grey(metres, self.near_m, self.far_m)
        return grey(depth * 0.001, self.near_m, self.far_m)


def grey(metres: np.ndarray, near_m: float, far_m: float) -> np.ndarray:
    """Depth (H, W) in m as uint8 (H, W, 3): near 0, far and beyond 255, no depth (0, NaN) 0."""
    with np.errstate(invalid="ignore"):
        level = np.clip((metres - near_m) / (far_m - near_m), 0.0, 1.0) * 255
        level = np.where(metres > 0, level, 0.0)
    return np.repeat(np.rint(level).astype(np.uint8)[..., None], 3, axis=2)
