"""Real ROS 2 recordings by rosbags' writer, of a known motion, with the time written into every image."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from ur10e_act.recordings.convert_config import UR_JOINTS

NS = 1_000_000_000
START_NS = 1_700_000_000 * NS
STORE = get_typestore(Stores.ROS2_HUMBLE)
TYPES = STORE.types
HUMBLE_ORDER = (*UR_JOINTS[1:], UR_JOINTS[0])  # as ur_robot_driver publishes them there
HEIGHT, WIDTH = 64, 96
BITS, CELL = 24, 8  # the time in 0.1 ms as blocks of 8x8 px, four rows of six


def motion(seconds: np.ndarray | float) -> np.ndarray:
    """Joint positions (..., 6) in rad at a time since the start."""
    t = np.asarray(seconds)[..., None]
    return np.sin(t * np.array([0.5, 0.7, 0.9, 1.1, 1.3, 1.5]) + np.arange(6)) + 0.2 * np.arange(6)


def grip(seconds: np.ndarray | float) -> np.ndarray:
    return 0.4 + 0.4 * np.sin(np.asarray(seconds) * 2.0)


def clock_image(seconds: float, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """uint8 (H, W, 3) that shows its time: ``read_time`` reads it after any coding that leaves 8x8 blocks."""
    code = round(seconds * 10_000)
    y, x = np.mgrid[:height, :width]
    frame = np.stack([(x * 2 + code // 300) % 200, y * 2 + 20, 180 - y - x // 2], axis=2).clip(0, 255)
    for bit in range(BITS):
        row, column = divmod(bit, 6)
        frame[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL] = (
            230 if code >> bit & 1 else 25
        )
    return frame.astype(np.uint8)


def read_time(frame: np.ndarray) -> float:
    """The time (s) of a ``clock_image``."""
    cells = frame[: 4 * CELL, : 6 * CELL].mean(axis=2).reshape(4, CELL, 6, CELL).mean(axis=(1, 3))
    return int(((cells.ravel() > 128) << np.arange(BITS)).sum()) / 10_000


def header(time_ns: int) -> Any:
    stamp = TYPES["builtin_interfaces/msg/Time"](sec=time_ns // NS, nanosec=time_ns % NS)
    return TYPES["std_msgs/msg/Header"](stamp=stamp, frame_id="")


def joint_state(time_ns: int, positions: Any, names: Any = HUMBLE_ORDER) -> Any:
    positions = np.asarray(positions, np.float64)
    empty = np.zeros(0)
    return TYPES["sensor_msgs/msg/JointState"](header(time_ns), list(names), positions, empty, empty)


def image(
    time_ns: int, frame: np.ndarray, encoding: str = "rgb8", padding: int = 0, big: bool = False
) -> Any:
    """sensor_msgs/Image of an array as it lies in memory, rows padded by that many bytes."""
    if big:
        frame = frame.astype(frame.dtype.newbyteorder(">"))
    rows = np.frombuffer(np.ascontiguousarray(frame).tobytes(), np.uint8).reshape(len(frame), -1)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=77)
    return TYPES["sensor_msgs/msg/Image"](
        header(time_ns), frame.shape[0], frame.shape[1], encoding, int(big), rows.shape[1], rows.ravel()
    )


def compressed(
    time_ns: int, frame: np.ndarray, form: str = "JPEG", kind: str = "rgb8; jpeg compressed bgr8"
) -> Any:
    content = io.BytesIO()
    Image.fromarray(frame).save(content, form, quality=92)
    data = np.frombuffer(content.getvalue(), np.uint8)
    return TYPES["sensor_msgs/msg/CompressedImage"](header(time_ns), kind, data)


@dataclass
class Bag:
    """What is recorded; a test changes what it is about.

    messages(): (topic, receive time in ns, message), in the order of writing.
    """

    seconds: float = 2.0
    joint_hz: float = 125.0
    camera_hz: float = 30.0
    cameras: tuple[str, ...] = ("/top/image_raw/compressed",)
    height: int = HEIGHT
    width: int = WIDTH
    make_image: Callable[[int, np.ndarray], Any] = compressed
    change: Callable[[list], list] = lambda messages: messages
    storage: StoragePlugin = StoragePlugin.SQLITE3
    compression: CompressionMode | None = None
    offset_s: float = 0.0  # the episode's place in the motion
    start_ns: int = START_NS
    extra: dict[str, Any] = field(default_factory=dict)

    def messages(self) -> list[tuple[str, int, Any]]:
        found = []
        for t in np.arange(0, self.seconds, 1 / self.joint_hz):
            ns = self.start_ns + round(t * NS)
            positions = dict(zip(UR_JOINTS, motion(t + self.offset_s), strict=True))
            found.append(("/joint_states", ns, joint_state(ns, [positions[name] for name in HUMBLE_ORDER])))
        for number, topic in enumerate(self.cameras):
            # Not at the rows' times, and each camera at its own.
            for t in np.arange(0.004 + 0.003 * number, self.seconds, 1 / self.camera_hz):
                t = round(t, 4)
                ns = self.start_ns + round(t * NS)
                frame = clock_image(t, self.height, self.width)
                found.append((topic, ns + 2_000_000, self.make_image(ns, frame)))
        return self.change(sorted(found, key=lambda message: message[1]))

    def write(self, path: Path) -> Path:
        writer = Writer(path, version=8, storage_plugin=self.storage)
        if self.compression:
            writer.set_compression(self.compression, CompressionFormat.ZSTD)
        connections = {}
        with writer:
            for topic, received, message in self.messages():
                kind = message.__msgtype__
                if (topic, kind) not in connections:
                    connections[topic, kind] = writer.add_connection(topic, kind, typestore=STORE)
                writer.write(connections[topic, kind], received, STORE.serialize_cdr(message, kind))
        return path


def storage_file(bag: Path) -> Path:
    return next(file for file in sorted(bag.iterdir()) if ".db3" in file.name or ".mcap" in file.name)


def frames_of(dataset: Any, camera: str, episode: int) -> Iterator[np.ndarray]:
    yield from dataset.frames.read(camera, episode, range(dataset.episodes[episode].length))


def unknown_type(found: list) -> list:
    status = TYPES["diagnostic_msgs/msg/KeyValue"](key="a", value="b")
    return [*found, ("/status", found[-1][1], status)]


def drop(topic: str, first_s: float, last_s: float):
    def change(found: list) -> list:
        return [m for m in found if m[0] != topic or not first_s <= (m[1] - START_NS) / NS < last_s]

    return change


def cut_file(bag: Path) -> None:
    file = storage_file(bag)
    os.truncate(file, file.stat().st_size * 2 // 3)


def without_metadata(bag: Path) -> None:
    (bag / "metadata.yaml").unlink()
