"""convert_recording.py: rows where all topics have messages, and what is refused."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from bags import HUMBLE_ORDER, NS, START_NS, Bag, clock_image, compressed, drop, motion, unknown_type
from conftest import ROOT
from conversions import CONFIG, FIRST_S, TOP, assert_left_out, converted

from ur10e_act.recordings.convert_config import ActionConfig, ConvertConfig, JointsConfig


@pytest.mark.parametrize("wrap", [False, True])
def test_deltas_go_the_short_way_round_with_signs_and_wrapping(wrap: bool, tmp_path: Path) -> None:
    """The source wraps at pi while the pan joint turns steadily through it."""

    def turning(t: np.ndarray) -> np.ndarray:
        return 2.5 + 1.5 * t

    def change(found: list) -> list:
        for _, received, message in found:
            if hasattr(message, "position"):
                angle = turning((received - START_NS) / NS)
                pan = HUMBLE_ORDER.index("shoulder_pan_joint")
                message.position[pan] = (angle + np.pi) % (2 * np.pi) - np.pi
        return found

    Bag(change=change).write(tmp_path / "bags" / "one")
    config = ConvertConfig(
        task="turn",
        joints=JointsConfig(signs=(-1, 1, 1, 1, 1, -1), wrap=wrap),
        cameras=CONFIG.cameras,
        action=ActionConfig("delta"),
    )
    dataset, _ = converted(tmp_path / "bags", tmp_path / "set", config)
    times = FIRST_S + np.arange(dataset.num_frames) / 30
    states, actions = dataset.read_states(0), dataset.read_actions(0)
    expected = motion(times) * [-1, 1, 1, 1, 1, -1]
    expected[:, 0] = -((turning(times) + np.pi) % (2 * np.pi) - np.pi)
    np.testing.assert_allclose(np.cos(states), np.cos(expected), atol=1e-4)
    assert np.abs(states[:, 0]).max() <= np.pi + 0.02
    np.testing.assert_allclose(actions[:, 0], -1.5 / 30, atol=1e-4)
    np.testing.assert_allclose(
        actions[:, 5], -np.diff(motion(np.append(times, times[-1] + 1 / 30))[:, 5]), atol=1e-4
    )


def with_bigger_image(found: list) -> list:
    number = next(i for i in range(200, len(found)) if found[i][0] == TOP)
    ns = found[number][1]
    found[number] = (TOP, ns, compressed(ns - 2_000_000, clock_image(1.0, 80, 112)))
    return found


def stamps_back(found: list) -> list:
    number = next(i for i in range(200, len(found)) if found[i][0] == TOP)
    found[number][2].header.stamp.sec -= 1
    return found


def cut_image(found: list) -> list:
    message = next(m for m in found[200:] if m[0] == TOP)[2]
    message.data = message.data[:400]
    return found


FAULTS = {
    "other topics only": (Bag(change=lambda found: unknown_type(found)[-1:]), None, "empty"),
    "missing camera": (Bag(cameras=()), None, "missing_topic"),
    "missing joints": (Bag(change=drop("/joint_states", 0, 9)), None, "missing_topic"),
    "stamps go back": (Bag(change=stamps_back), None, "time_back"),
    "camera gap": (Bag(change=drop(TOP, 0.9, 1.1)), None, "gap"),
    "joint gap": (Bag(change=drop("/joint_states", 0.9, 1.05)), None, "gap"),
    "size changes": (Bag(change=with_bigger_image), None, "size_changes"),
    "cut image": (Bag(change=cut_image), None, "bad_picture"),
    "too short": (Bag(seconds=0.5), None, "too_short"),
    "no overlap": (
        Bag(change=lambda found: drop("/joint_states", 0.9, 9)(drop(TOP, 0, 1.0)(found))),
        None,
        "no_overlap",
    ),
    "odd size": (Bag(height=65), None, "odd_size"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_faulty_recording_is_named_and_left_out(name: str, tmp_path: Path, capsys) -> None:
    assert_left_out(*FAULTS[name], tmp_path, capsys)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_length(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from conversions import CONFIG;"
        "from ur10e_act.recordings.find_recordings import find_recordings;"
        "from ur10e_act.recordings.convert_recording import convert_recording;"
        "recording = find_recordings(sys.argv[1])[0];"
        "report = convert_recording(recording, recording.digests(), CONFIG, Path(sys.argv[2]));"
        "print(report.result.frames);"
        "print(*(line for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    )
    path = os.pathsep.join(str(ROOT / folder) for folder in ("python", "tests/python"))
    peaks = {}
    for seconds in (6, 60):
        bag = Bag(seconds=seconds, camera_hz=30, height=160, width=240).write(tmp_path / f"bag{seconds}")
        found = subprocess.run(
            [sys.executable, "-c", code, bag, tmp_path / "piece"],
            env=os.environ | {"PYTHONPATH": path},
            check=True,
            capture_output=True,
            text=True,
        ).stdout.split()
        assert int(found[0]) > 28 * seconds
        peaks[seconds] = int(found[2])
    assert peaks[60] < peaks[6] + 12_000, f"{peaks} kB"
