"""What messages tell: their time, and the values of joints, gripper, commands and cameras in them."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ur10e_act.recordings.bag_reader import Message
from ur10e_act.recordings.convert_config import ConvertConfig
from ur10e_act.recordings.fault import Fault
from ur10e_act.recordings.ros_images import IMAGE_TYPES
from ur10e_act.recordings.ros_joints import JointReader
from ur10e_act.recordings.synchronize import NS

JOINT_STATE = "sensor_msgs/msg/JointState"
TRAJECTORY = "trajectory_msgs/msg/JointTrajectory"
ARRAY = "std_msgs/msg/Float64MultiArray"
HOLD_NUMBERS = tuple(
    f"std_msgs/msg/{name}"
    for name in ("Bool", "Int8", "Int16", "Int32", "Int64", "UInt8", "UInt16", "UInt32", "UInt64")
)
NUMBERS = ("std_msgs/msg/Float32", "std_msgs/msg/Float64", *HOLD_NUMBERS)
STAMPED = (JOINT_STATE, TRAJECTORY, *IMAGE_TYPES)


def header_stamp_ns(data: bytes) -> int:
    """The stamp of a message that begins with a std_msgs/Header, ns; 0 where it was never set."""
    order = "<" if data[1] & 1 else ">"
    seconds, nanoseconds = struct.unpack_from(order + "iI", data, 4)
    return seconds * NS + nanoseconds


@dataclass
class Clock:
    """A topic's times: which clock they are from, and how much later the recorder got the messages."""

    source: str | None = None
    count: int = 0
    sum_s: float = 0.0
    least_s: float = math.inf
    most_s: float = -math.inf

    def time_ns(self, message: Message, wanted: str) -> int:
        stamp = 0
        if wanted == "header" and message.type in STAMPED:
            if len(message.data) < 12:
                raise Fault("bad_message", f"{message.topic}: a message of {len(message.data)} bytes")
            stamp = header_stamp_ns(message.data)
        source = "header" if stamp else "receive"
        if self.source not in (None, source):
            raise Fault("mixed_stamps", f"{message.topic}: some messages have a stamp and some have none")
        self.source = source
        time_ns = stamp or message.received_ns
        delay = (message.received_ns - time_ns) / NS
        self.count += 1
        self.sum_s += delay
        self.least_s, self.most_s = min(self.least_s, delay), max(self.most_s, delay)
        return time_ns

    def report(self) -> dict[str, Any]:
        found: dict[str, Any] = {"time": self.source}
        if self.source == "header" and self.count:
            delays = (self.least_s, self.sum_s / self.count, self.most_s)
            found["received_later_ms"] = dict(
                zip(("least", "mean", "most"), (round(d * 1e3, 3) for d in delays), strict=True)
            )
        return found


@dataclass
class Source:
    """How the messages of one topic become values of tracks."""

    joints: dict[str, str] = field(default_factory=dict)  # joint name -> track
    number: str | None = None  # track of a message that is one number
    commands: list[str] = field(default_factory=list)  # tracks of an array without names
    image: str | None = None

    @property
    def tracks(self) -> list[str]:
        single = [track for track in (self.image, self.number) if track]
        return [*single, *self.joints.values()]


class MessageValues:
    """Times and values of messages, by track.

    deserialize: from a message to an object with the fields of its type.
    sources: by topic. clocks: by topic, of all messages since ``clocks`` was cleared.
    """

    def __init__(self, config: ConvertConfig, deserialize: Callable[[Message], Any]):
        self.config, self._deserialize = config, deserialize
        self.sources = _sources(config)
        self.clocks: dict[str, Clock] = {}
        self._joint_readers = {topic: JointReader(deserialize) for topic in self.sources}

    def time_ns(self, message: Message) -> int:
        """Raises Fault where a message is too short for a stamp, or some have stamps and some have none."""
        return self.clocks.setdefault(message.topic, Clock()).time_ns(message, self.config.time)

    def read(self, message: Message) -> list[tuple[str, int, Any]]:
        """(track, time in ns, value) of all that a message tells; of an image the message. Raises Fault."""
        source, topic, kind = self.sources[message.topic], message.topic, message.type
        time_ns = self.time_ns(message)
        if source.image:
            if kind not in IMAGE_TYPES:
                raise Fault("wrong_type", f"{topic} has {kind}, a camera needs {' or '.join(IMAGE_TYPES)}")
            return [(source.image, time_ns, message)]
        named = self._numbers(message, source)
        for track, value in named:
            if not math.isfinite(value):
                raise Fault("not_finite", f"{topic}: {track} is {value} at {time_ns / NS:.3f} s")
        return [(track, time_ns, value) for track, value in named]

    def _numbers(self, message: Message, source: Source) -> list[tuple[str, float]]:
        topic, kind = message.topic, message.type
        if kind == JOINT_STATE and source.joints:
            return _by_name(topic, *self._joint_readers[topic].read(message), source.joints)
        content = self._deserialize(message)
        if kind in NUMBERS and source.number:
            return [(source.number, float(content.data))]
        if kind == TRAJECTORY and source.commands:
            if len(content.points) != 1:
                raise Fault("wrong_type", f"{topic}: trajectories of {len(content.points)} points, not 1")
            return _by_name(topic, content.joint_names, content.points[0].positions, source.joints)
        if kind == ARRAY and source.commands:
            if len(content.data) != len(source.commands):
                raise Fault(
                    "wrong_type", f"{topic}: {len(content.data)} values for {len(source.commands)} joints"
                )
            return list(zip(source.commands, map(float, content.data), strict=True))
        raise Fault("wrong_type", f"{topic} has {kind}, which cannot be used for what it is to be")


def _sources(config: ConvertConfig) -> dict[str, Source]:
    sources = {topic: Source() for topic in config.topics}
    for topic in config.joints.topics:
        sources[topic].joints |= {name: f"joint {name}" for name in config.joints.names}
    for name, camera in config.cameras.items():
        sources[camera.topic].image = f"camera {name}"
    if config.gripper and config.gripper.joint:
        sources[config.gripper.topic].joints[config.gripper.joint] = "gripper"
    elif config.gripper:
        sources[config.gripper.topic].number = "gripper"
    if config.action.topic:
        names = list(config.joints.names)
        if config.gripper:
            names.append(config.gripper.joint or config.gripper.name)
        tracks = [f"command {name}" for name in names]
        source = sources[config.action.topic]
        source.joints, source.commands = dict(zip(names, tracks, strict=True)), tracks
    return sources


def _by_name(
    topic: str, names: Sequence[str], values: Sequence[float], wanted: dict[str, str]
) -> list[tuple[str, float]]:
    if not len(values):  # a JointState of velocities or efforts alone
        return []
    if len(names) != len(values):
        raise Fault("bad_message", f"{topic}: {len(names)} names for {len(values)} positions")
    return [(wanted[name], float(value)) for name, value in zip(names, values, strict=True) if name in wanted]
