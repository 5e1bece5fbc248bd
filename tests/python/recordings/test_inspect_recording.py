"""inspect_recording.py: what it proposes is what convert takes."""

from pathlib import Path

from bags import NS, START_NS, Bag, grip, joint_state, unknown_type
from conversions import TOP, converted

import rosbag_to_lerobot
from ur10e_act.recordings.convert_config import UR_JOINTS, GripperConfig, load_convert_config


def test_inspect_proposes_what_convert_takes(tmp_path: Path, capsys) -> None:
    def change(found: list) -> list:
        gripper = [
            ("/gripper_states", r, joint_state(r, [grip((r - START_NS) / NS)], ["finger_joint"]))
            for t, r, _ in found
            if t == "/joint_states"
        ]
        return sorted(unknown_type(found + gripper), key=lambda message: message[1])

    bag = Bag(cameras=(TOP, "/wrist_camera/color/image_raw/compressed"), change=change).write(
        tmp_path / "one"
    )
    rosbag_to_lerobot.main(["--inspect", str(bag)])
    proposed = capsys.readouterr().out
    assert "# /joint_states  sensor_msgs/msg/JointState  250 messages  125" in proposed
    assert "shoulder_lift_joint, elbow_joint" in proposed
    assert "96x64 px, rgb8; jpeg compressed bgr8" in proposed
    assert "# /status  diagnostic_msgs/msg/KeyValue" in proposed
    (tmp_path / "convert.yaml").write_text(proposed)
    config = load_convert_config(tmp_path / "convert.yaml")
    assert config.joints.names == UR_JOINTS
    assert set(config.cameras) == {"top", "wrist_camera"}
    assert config.gripper == GripperConfig("/gripper_states", "finger_joint")
    dataset, _ = converted(bag, tmp_path / "set", config)
    assert len(dataset.cameras) == 2
