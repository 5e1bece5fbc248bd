"""What a ROS 2 recording holds, and a configuration for converting recordings like it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ur10e_act.config import to_dict
from ur10e_act.errors import UserError
from ur10e_act.recordings.bag_reader import Message, RecordingReader, Topic, survey
from ur10e_act.recordings.convert_config import (
    UR_JOINTS,
    CameraConfig,
    ConvertConfig,
    GripperConfig,
    JointsConfig,
)
from ur10e_act.recordings.fault import Fault
from ur10e_act.recordings.find_recordings import find_recordings
from ur10e_act.recordings.message_values import JOINT_STATE, NUMBERS
from ur10e_act.recordings.ros_images import DEPTH_M, DEPTH_MM, IMAGE_TYPES, CompressedDecoder

SAMPLES = 2000  # messages that are looked at, at most
GRIPPER = re.compile(r"finger|gripper|knuckle|robotiq", re.I)
EVERYDAY = {"camera", "image", "image_raw", "image_color", "color", "rgb", "compressed", "raw", "image_rect"}


def inspect(bag: Path | str) -> str:
    """Topics of a recording (the first one in a folder) as comments, then a configuration as YAML.

    Raises UserError where nothing can be read.
    """
    found = find_recordings(bag)
    if not found:
        raise UserError(f"{bag}: no recording found there")
    seen: dict[str, Any] = {}
    kinds = (JOINT_STATE, *IMAGE_TYPES, *NUMBERS)
    try:
        reader = RecordingReader(found[0], recover=True)
        topics = survey(reader)
        wanted = [name for name, topic in topics.items() if topic.type in kinds and topic.messages]
        for number, message in enumerate(reader.messages(wanted) if wanted else ()):
            if number == SAMPLES or (number > SAMPLES // 10 and len(seen) == len(wanted)):
                break
            _look(reader, message, seen)
    except Fault as fault:
        raise UserError(f"{bag}, {found[0].name}: {fault.message}") from None
    lines = [f"# {found[0].name}: {len(topics)} topics"]
    for name, (kind, count, seconds) in sorted(topics.items()):
        rate = f"{count / seconds:.1f} Hz" if seconds > 0 and count > 1 else "-"
        lines.append(f"# {name}  {kind}  {count} messages  {rate}  {_describe(seen.get(name))}".rstrip())
    lines.append(
        "# Proposed; say what the robot does in `task`, and see python/convert.yaml for what the keys mean."
    )
    return "\n".join(lines) + "\n" + yaml.safe_dump(_proposal(topics, seen), sort_keys=False)


def _look(reader: RecordingReader, message: Message, seen: dict[str, Any]) -> None:
    """Adds what a message tells to ``seen``: joint names, or (height, width, encoding) of an image."""
    if message.type == JOINT_STATE:
        names = seen.setdefault(message.topic, [])
        names += [name for name in reader.deserialize(message).name if name not in names]
    elif message.topic not in seen:
        if message.type not in IMAGE_TYPES:
            seen[message.topic] = None
            return
        content = reader.deserialize(message)
        if message.type == IMAGE_TYPES[0]:
            seen[message.topic] = (int(content.height), int(content.width), content.encoding)
            return
        try:
            frame = CompressedDecoder(0.0, 1.0).decode(content)
            shape = frame.shape[:2] if isinstance(frame, np.ndarray) else (frame.height, frame.width)
        except Fault:
            shape = (0, 0)
        seen[message.topic] = (*shape, content.format)


def _describe(what: Any) -> str:
    if isinstance(what, list):
        return ", ".join(what)
    return f"{what[1]}x{what[0]} px, {what[2]}" if what else ""


def _proposal(topics: dict[str, Topic], seen: dict[str, Any]) -> dict[str, Any]:
    joint_topics = {name: joints for name, joints in seen.items() if topics[name].type == JOINT_STATE}
    arm = _arm(joint_topics)
    used = tuple(topic for topic, names in joint_topics.items() if set(names) & set(arm))
    config = ConvertConfig(
        task="Say here what the robot does",
        joints=JointsConfig(topics=used or ("/joint_states",), names=arm or UR_JOINTS),
        gripper=_gripper(topics, joint_topics, arm),
        cameras=_cameras({name: what for name, what in seen.items() if topics[name].type in IMAGE_TYPES}),
    )
    return to_dict(config)


def _arm(joint_topics: dict[str, list[str]]) -> tuple[str, ...]:
    names = [name for topic in joint_topics.values() for name in topic]
    # With several arms or a prefix, UR's order still holds within each.
    ours = [name for base in UR_JOINTS for name in names if name.endswith(base)]
    rest = [name for name in names if not GRIPPER.search(name)]
    return tuple(dict.fromkeys(ours or rest))


def _gripper(
    topics: dict[str, Topic], joint_topics: dict[str, list[str]], arm: tuple[str, ...]
) -> GripperConfig | None:
    for name, joints in joint_topics.items():
        for joint in joints:
            if GRIPPER.search(joint) and joint not in arm:
                return GripperConfig(name, joint)
    for name, topic in topics.items():
        if topic.type in NUMBERS and GRIPPER.search(name):
            return GripperConfig(name)
    return None


def _cameras(images: dict[str, tuple[int, int, str]]) -> dict[str, CameraConfig]:
    """Every colour camera once, by its smallest topic: compressed rather than raw."""
    cameras: dict[str, CameraConfig] = {}
    for topic in sorted(images, key=lambda topic: (not topic.endswith("compressed"), topic)):
        height, width, encoding = images[topic]
        base = topic.removesuffix("/compressed")
        if encoding.startswith((DEPTH_M, DEPTH_MM)) or any(
            camera.topic.removesuffix("/compressed") == base for camera in cameras.values()
        ):
            continue
        words = [word for word in base.strip("/").split("/") if word not in EVERYDAY]
        name = re.sub(r"\W", "_", "_".join(words)) or "camera"
        while name in cameras:
            name += "_2"
        resize = None if height % 2 == 0 and width % 2 == 0 else (height // 2 * 2, width // 2 * 2)
        cameras[name] = CameraConfig(topic, resize)
    return cameras
