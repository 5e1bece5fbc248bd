"""message_values.py: joints, gripper, commands and cameras as messages tell them."""

from pathlib import Path

import numpy as np
import pytest
from bags import (
    NS,
    START_NS,
    TYPES,
    Bag,
    frames_of,
    grip,
    image,
    joint_state,
    motion,
    read_time,
    unknown_type,
)
from conversions import CONFIG, FIRST_S, TOP, assert_left_out, converted

from ur10e_act.recordings.convert_config import (
    UR_JOINTS,
    ActionConfig,
    CameraConfig,
    ConvertConfig,
    GripperConfig,
)


def test_joints_by_name_from_several_publishers_gripper_and_two_cameras(tmp_path: Path) -> None:
    """Two publishers on one topic, each with some joints, in orders that change from message to message."""

    def change(found: list) -> list:
        shared = []
        for number, (topic, received, message) in enumerate(found):
            if topic != "/joint_states":
                shared.append((topic, received, message))
                continue
            values = dict(zip(message.name, message.position, strict=True))
            names = list(values)[number % 5 :] + list(values)[: number % 5]
            t = (received - START_NS) / NS
            for chosen in (names[:2], names[2:]):
                shared.append((topic, received, joint_state(received, [values[n] for n in chosen], chosen)))
            shared.append((topic, received, joint_state(received, [grip(t), 7.0], ["finger_joint", "other"])))
        return shared

    wrist = "/wrist/image_raw/compressed"
    Bag(cameras=(TOP, wrist), change=change).write(tmp_path / "bags" / "one")
    config = ConvertConfig(
        task="reach",
        gripper=GripperConfig("/joint_states", "finger_joint"),
        cameras={"top": CameraConfig(TOP), "wrist": CameraConfig(wrist, resize=(32, 48))},
    )
    dataset, _ = converted(tmp_path / "bags", tmp_path / "set", config)
    times = 0.007 + np.arange(dataset.num_frames) / 30
    np.testing.assert_allclose(dataset.read_states(0)[:, :6], motion(times), atol=5e-5)
    np.testing.assert_allclose(dataset.read_states(0)[:, 6], grip(times), atol=5e-5)
    assert dataset.state_names[-1] == "gripper"
    assert dataset.image_shapes == {"observation.images.top": (64, 96), "observation.images.wrist": (32, 48)}


def command_messages(found: list, kind: str) -> list:
    more = []
    for topic, received, message in found:
        more.append((topic, received, message))
        if topic == "/joint_states":
            values = motion((received - START_NS) / NS) + 1
            if kind == "array":
                layout = TYPES["std_msgs/msg/MultiArrayLayout"](dim=[], data_offset=0)
                command = TYPES["std_msgs/msg/Float64MultiArray"](layout=layout, data=values)
            else:
                soon = TYPES["builtin_interfaces/msg/Duration"](sec=0, nanosec=0)
                empty = np.zeros(0)
                point = TYPES["trajectory_msgs/msg/JointTrajectoryPoint"](
                    values[::-1].copy(), empty, empty, empty, soon
                )
                command = TYPES["trajectory_msgs/msg/JointTrajectory"](
                    message.header, list(UR_JOINTS[::-1]), [point]
                )
            more.append(("/command", received, command))
    return more


@pytest.mark.parametrize("kind", ["array", "trajectory"])
def test_commands_as_actions(kind: str, tmp_path: Path) -> None:
    """The command in force at each row; without a header its receive time counts."""
    Bag(change=lambda found: command_messages(found, kind)).write(tmp_path / "bags" / "one")
    config = ConvertConfig(task="reach", cameras=CONFIG.cameras, action=ActionConfig("command", "/command"))
    dataset, report = converted(tmp_path / "bags", tmp_path / "set", config)
    times = FIRST_S + np.arange(dataset.num_frames) / 30
    held = np.floor(times * 125 + 1e-6) / 125
    np.testing.assert_allclose(dataset.read_actions(0), motion(held) + 1, atol=1e-5)
    used = report["recordings"][0]["topics"]["/command"]["time"]
    assert used == ("receive" if kind == "array" else "header")


def test_other_cameras(tmp_path: Path) -> None:
    """Raw images with padded rows, receive times where stamps are absent; foreign types do not matter."""

    def raw(_: int, frame: np.ndarray):
        return image(0, frame[..., ::-1], "bgr8", padding=6)

    Bag(make_image=raw, change=lambda found: unknown_type(found)).write(tmp_path / "bags" / "one")
    dataset, report = converted(tmp_path / "bags", tmp_path / "set")
    times = 0.006 + np.arange(dataset.num_frames) / 30
    seen = [read_time(frame) for frame in frames_of(dataset, dataset.cameras[0], 0)]
    np.testing.assert_allclose(np.array(seen) + 0.002, times, atol=1e-3)
    assert report["recordings"][0]["topics"][TOP] == {"time": "receive"}


def with_nan(found: list) -> list:
    next(m for m in found[200:] if m[0] == "/joint_states")[2].position[2] = np.nan
    return found


def mixed_stamps(found: list) -> list:
    message = next(m for m in found[200:] if m[0] == TOP)[2]
    message.header.stamp.sec = message.header.stamp.nanosec = 0
    return found


FAULTS = {
    "missing joint": (
        Bag(
            change=lambda found: [
                (t, r, joint_state(r, m.position[1:], m.name[1:]) if hasattr(m, "position") else m)
                for t, r, m in found
            ]
        ),
        None,
        "missing_joint",
    ),
    "NaN": (Bag(change=with_nan), None, "not_finite"),
    "mixed stamps": (Bag(change=mixed_stamps), None, "mixed_stamps"),
    "wrong camera type": (
        Bag(make_image=lambda ns, frame: joint_state(ns, np.zeros(6))),
        None,
        "wrong_type",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_faulty_recording_is_named_and_left_out(name: str, tmp_path: Path, capsys) -> None:
    assert_left_out(*FAULTS[name], tmp_path, capsys)
