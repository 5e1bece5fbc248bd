"""ros_joints.py: the short way through a message gives what the full one gives."""

import numpy as np
import pytest
from bags import HUMBLE_ORDER, STORE, joint_state

from ur10e_act.recordings.bag_reader import Message
from ur10e_act.recordings.ros_joints import JointReader

KIND = "sensor_msgs/msg/JointState"


def deserialize(message: Message):
    return STORE.deserialize_cdr(message.data, KIND)


@pytest.mark.parametrize("little", [True, False])
def test_messages_of_a_publisher_and_of_others_between_them(little: bool) -> None:
    """Only a message whose names differ from the last one's, or a big-endian one, is deserialized."""
    full = []

    def count(message: Message):
        full.append(message)
        return deserialize(message)

    reader = JointReader(count)
    random = np.random.default_rng(0)
    orders = [HUMBLE_ORDER] * 3 + [HUMBLE_ORDER[::-1]] + [("finger_joint",)] * 2 + [()] + [HUMBLE_ORDER] * 2
    for number, names in enumerate(orders):
        content = joint_state(number * 8_000_000, random.normal(size=len(names)), names)
        # The length of frame_id moves the names.
        content.header.frame_id = "base"[: number % 5]
        data = STORE.serialize_cdr(content, KIND, little_endian=little)
        found, positions = reader.read(Message("/joint_states", KIND, 0, bytes(data)))
        assert found == tuple(names)
        assert positions == content.position.tolist()
    assert len(full) == (5 if little else len(orders))
