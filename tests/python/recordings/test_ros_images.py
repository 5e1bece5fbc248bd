"""ros_images.py: every encoding that is promised, as it lies in messages."""

import numpy as np
import pytest
from bags import clock_image, compressed, image

from ur10e_act.recordings.fault import Fault
from ur10e_act.recordings.ros_images import CompressedDecoder, decode_image

FRAME = clock_image(0.1234)
DEPTH = np.linspace(0, 3, 64 * 96).reshape(64, 96)


def decoded(message) -> np.ndarray:
    frame = CompressedDecoder(0.0, 2.0).decode(message)
    return frame if isinstance(frame, np.ndarray) else frame.to_ndarray(format="rgb24")


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "rgba8", "bgra8", "mono8"])
def test_raw_colours(encoding: str, padding: int) -> None:
    alpha = np.full((64, 96, 1), 9, np.uint8)
    stored = {
        "rgb8": FRAME,
        "bgr8": FRAME[..., ::-1],
        "rgba8": np.concatenate([FRAME, alpha], axis=2),
        "bgra8": np.concatenate([FRAME[..., ::-1], alpha], axis=2),
        "mono8": FRAME[..., 1],
    }[encoding]
    expected = np.repeat(FRAME[..., 1:2], 3, axis=2) if encoding == "mono8" else FRAME
    np.testing.assert_array_equal(decode_image(image(0, stored, encoding, padding), 0, 1), expected)


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("encoding", ["16UC1", "32FC1"])
def test_raw_depth_is_grey_over_a_fixed_range(encoding: str, big: bool) -> None:
    stored = np.rint(DEPTH * 1000).astype(np.uint16) if encoding == "16UC1" else DEPTH.astype(np.float32)
    frame = decode_image(image(0, stored, encoding, 4, big), 1.0, 2.0)
    expected = np.where(DEPTH > 0, np.clip(DEPTH - 1, 0, 1) * 255, 0)
    assert frame.shape == (64, 96, 3)
    assert np.abs(frame - expected[..., None]).max() <= 1
    if encoding == "32FC1":
        stored[0, 0] = np.nan
        assert decode_image(image(0, stored, encoding, 0, big), 1.0, 2.0)[0, 0].tolist() == [0, 0, 0]


@pytest.mark.parametrize("kind", ["rgb8; jpeg compressed bgr8", "bgr8; jpeg compressed bgr8", "jpeg"])
def test_jpeg_swaps_no_channels(kind: str) -> None:
    assert np.abs(decoded(compressed(0, FRAME, "JPEG", kind)).astype(int) - FRAME).mean() < 6


def test_png_is_exact_and_grey_jpeg_is_grey() -> None:
    np.testing.assert_array_equal(decoded(compressed(0, FRAME, "PNG", "rgb8; png compressed bgr8")), FRAME)
    grey = decoded(compressed(0, FRAME[..., 1], "JPEG", "mono8; jpeg compressed mono8"))
    assert np.abs(grey.astype(int) - FRAME[..., 1:2]).mean() < 4


def test_compressed_depth() -> None:
    stored = np.rint(DEPTH * 1000).astype(np.uint16)
    message = compressed(0, stored, "PNG", "16UC1; png compressed ")
    expected = np.clip(DEPTH / 2, 0, 1)[..., None] * 255
    assert np.abs(decoded(message) - expected).max() <= 1
    message.format, message.data = (
        "16UC1; compressedDepth png",
        np.concatenate([np.zeros(12, np.uint8), message.data]),
    )
    assert np.abs(decoded(message) - expected).max() <= 1
    # 32FC1: a / depth + b, with a and b in the header
    a, b = 1000.0, 5.0
    with np.errstate(divide="ignore"):
        inverse = np.where(DEPTH > 0.1, np.rint(a / DEPTH + b), 0).astype(np.uint16)
    message = compressed(0, inverse, "PNG", "32FC1; compressedDepth png")
    head = np.frombuffer(
        np.array([0, 0], np.uint8).tobytes() + bytes(2) + np.array([a, b], "<f4").tobytes(), np.uint8
    )
    message.data = np.concatenate([head, message.data])
    near = np.where(DEPTH > 0.1, np.clip(DEPTH / 2, 0, 1) * 255, 0)
    assert np.abs(decoded(message) - near[..., None]).max() <= 2


def cut(message):
    message.data = message.data[: len(message.data) // 2]
    return message


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (cut(image(0, FRAME)), "bad_picture"),
        (image(0, FRAME, "bayer_rggb8"), "unknown_encoding"),
        (cut(compressed(0, FRAME)), "bad_picture"),
        (cut(compressed(0, FRAME, "PNG", "rgb8; png compressed bgr8")), "bad_picture"),
        (compressed(0, FRAME, "PNG", "16UC1; compressedDepth rvl"), "unknown_encoding"),
        (compressed(0, FRAME, "GIF", "rgb8; jpeg compressed bgr8"), "bad_picture"),
    ],
)
def test_damaged_and_unknown_images_are_refused(message, code: str) -> None:
    with pytest.raises(Fault) as error:
        decode_image(message, 0, 1) if hasattr(message, "encoding") else decoded(message)
    assert error.value.code == code
