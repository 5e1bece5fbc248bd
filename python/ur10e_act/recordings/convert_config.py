"""What recordings are turned into: typed dataclasses, read from YAML, changed by ``key=value`` overrides."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ur10e_act.config import bounded, load_as

# A UR's joints as every LeRobot dataset of it lists them; a message may list them in any other order.
UR_JOINTS = tuple(
    f"{name}_joint" for name in ("shoulder_pan", "shoulder_lift", "elbow", "wrist_1", "wrist_2", "wrist_3")
)


@dataclass(frozen=True)
class JointsConfig:
    """The joints of ``observation.state`` and ``action``, in this order, by their names in JointState.

    signs: 1 or -1 for each joint, multiplied to every value; null: all 1.
    wrap: wrap states to [-pi, pi) rad; differences are taken the short way round whatever this says.
    """

    topics: tuple[str, ...] = ("/joint_states",)
    names: tuple[str, ...] = UR_JOINTS
    signs: tuple[int, ...] | None = None
    wrap: bool = False

    def __post_init__(self) -> None:
        for key in ("topics", "names"):
            values = getattr(self, key)
            if not values or len(set(values)) != len(values):
                raise ValueError(f"joints.{key}: needs at least one entry, and none twice")
        if self.signs is not None and (len(self.signs) != len(self.names) or set(self.signs) - {1, -1}):
            raise ValueError(f"joints.signs: needs 1 or -1 for each of the {len(self.names)} joints")


@dataclass(frozen=True)
class GripperConfig:
    """A gripper, appended to the joints. ``joint`` names it in a JointState; null for std_msgs numbers."""

    topic: str
    joint: str | None = None
    name: str = "gripper"


@dataclass(frozen=True)
class CameraConfig:
    """One camera. ``resize``: [height, width] in px, even numbers; null: as recorded.

    Depth images become grey: depth_near_m is 0 (as is no depth at all), depth_far_m and beyond 255.
    """

    topic: str
    resize: tuple[int, int] | None = None
    depth_near_m: float = bounded(0.0, least=0)
    depth_far_m: float = bounded(4.0, above=0)

    def __post_init__(self) -> None:
        if self.resize is not None and (min(self.resize) < 16 or self.resize[0] % 2 or self.resize[1] % 2):
            raise ValueError(f"cameras: resize {list(self.resize)} must be even numbers of at least 16")
        if self.depth_far_m <= self.depth_near_m:
            raise ValueError("cameras: depth_far_m must be above depth_near_m")


@dataclass(frozen=True)
class ActionConfig:
    """What ``action`` is: the next row's state, the change to it, or what ``topic`` commands."""

    mode: Literal["next_state", "delta", "command"] = "next_state"
    topic: str | None = None

    def __post_init__(self) -> None:
        if (self.mode == "command") != (self.topic is not None):
            raise ValueError("action.topic: needed with action.mode command, and only there")


@dataclass(frozen=True)
class ConvertConfig:
    """The whole conversion; one attribute a YAML key. Seconds and Hz.

    max_offset_s: how far an image may be from its row. max_gap_s: the longest time without a message of a
    joint or command that is interpolated over or held. min_length_s: shorter episodes are left out.
    """

    fps: int = bounded(30, least=1)
    task: str = ""
    robot_type: str = "ur10e"
    joints: JointsConfig = field(default_factory=JointsConfig)
    gripper: GripperConfig | None = None
    cameras: dict[str, CameraConfig] = field(default_factory=dict)
    action: ActionConfig = field(default_factory=ActionConfig)
    time: Literal["header", "receive"] = "header"
    max_offset_s: float = bounded(0.05, above=0)
    max_gap_s: float = bounded(0.1, above=0)
    min_length_s: float = bounded(1.0, least=0)
    video_codec: Literal["h264", "av1"] = "h264"

    def __post_init__(self) -> None:
        if not self.task.strip():
            raise ValueError("task: say in words what the robot does in these recordings")
        for name in self.cameras:
            if not re.fullmatch(r"[A-Za-z0-9_]+", name):
                raise ValueError(f"cameras.{name}: a camera's name is made of letters, digits and _")
        topics = [camera.topic for camera in self.cameras.values()]
        if len(set(topics)) != len(topics):
            raise ValueError("cameras: two of them have the same topic")
        if self.gripper and self.gripper.name in self.state_names[:-1]:
            raise ValueError(f"gripper.name: {self.gripper.name} is the name of a joint")
        if self.action.topic in (*topics, *self.joints.topics):
            raise ValueError("action.topic: is the topic of a camera or of the joints")

    @property
    def state_names(self) -> tuple[str, ...]:
        """Names of the state's elements: the joints without their ``_joint``, then the gripper."""
        joints = tuple(name.removesuffix("_joint") for name in self.joints.names)
        return joints + ((self.gripper.name,) if self.gripper else ())

    @property
    def topics(self) -> tuple[str, ...]:
        """Every topic that is read, each once."""
        wanted = [*self.joints.topics, *(camera.topic for camera in self.cameras.values())]
        wanted += [self.gripper.topic] if self.gripper else []
        wanted += [self.action.topic] if self.action.topic else []
        return tuple(dict.fromkeys(wanted))


def load_convert_config(path: str | Path, overrides: Sequence[str] = ()) -> ConvertConfig:
    """Read a YAML file such as convert.yaml; overrides are ``key=value`` or ``section.key=value``.

    Raises ConfigError (one line: file, key, what is wrong) as ``config.load_config`` does.
    """
    return load_as(ConvertConfig, path, overrides, "fps=15 or cameras.top.topic=/camera/image_raw")
