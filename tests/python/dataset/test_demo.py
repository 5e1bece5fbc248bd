"""demo_dataset.py: the arm's kinematics, the motion, the images, and the dataset on disk."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ur10e_act.dataset import demo as demo
from ur10e_act.dataset.lerobot_dataset import open_dataset

FRAMES = 20


@pytest.fixture(scope="module")
def reaches() -> list[tuple[np.ndarray, np.ndarray]]:
    return [demo.plan_reach(np.random.default_rng(seed), FRAMES) for seed in range(50)]


def red(picture: np.ndarray) -> np.ndarray:
    """Where the disc is seen, bool (..., H, W)."""
    levels = picture.astype(int)
    return (levels[..., 0] > 150) & (levels[..., 1] < 90) & (levels[..., 2] < 90)


def test_arm_has_the_size_of_a_ur10e() -> None:
    """Stretched out, by Universal Robots' parameters: 1184.25 mm of arm, 290.7 mm of wrist sideways."""
    zero = demo.link_frames(np.zeros(6))[-1, :3, 3]
    np.testing.assert_allclose(zero, [0.6127 + 0.57155, 0.17415 + 0.11655, 0.1807 - 0.11985], atol=1e-9)
    upright = demo.link_frames(np.array([0, -np.pi / 2, 0, -np.pi / 2, 0, 0]))[-1, :3, 3]
    np.testing.assert_allclose(upright, [0, 0.2907, 0.1807 + 0.6127 + 0.57155 + 0.11985], atol=1e-9)


def test_panning_turns_the_whole_arm_about_the_vertical() -> None:
    joints = demo.READY.copy()
    before = demo.link_frames(joints)[-1]
    joints[0] += 0.7
    cos, sin = np.cos(0.7), np.sin(0.7)
    turn = np.array([[cos, -sin, 0, 0], [sin, cos, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    np.testing.assert_allclose(demo.link_frames(joints)[-1], turn @ before, atol=1e-9)


def test_reaches_end_on_the_disc_with_the_tool_down_and_the_gripper_closed(reaches) -> None:
    for path, disc in reaches:
        assert path.shape == (FRAMES + 1, 7)
        last = demo.link_frames(path[-1, :6])
        np.testing.assert_allclose(demo.fingertip(last), disc + [0, 0, demo.GRASP_HEIGHT], atol=1e-6)
        np.testing.assert_allclose(last[-1, :3, 2], [0, 0, -1], atol=1e-6)
        assert path[0, 6] == 0
        assert path[-1, 6] == 1
        # The elbow stays above the table, and the fingertips do not touch it on the way.
        frames = demo.link_frames(path[:, :6])
        assert frames[:, 1:, 2, 3].min() > 0.1
        assert demo.fingertip(frames)[:, 2].min() > 0.02


def test_motion_is_one_a_ur10e_can_make() -> None:
    """Its joints turn at up to 120 degrees/s (shoulder) and 180 (elbow, wrists); at rest at start and end."""
    for seed in range(50):
        path, _ = demo.plan_reach(np.random.default_rng(seed), 50)
        degrees_per_s = np.abs(np.degrees(np.diff(path[:, :6], axis=0))) * demo.FPS
        assert degrees_per_s[:, :2].max() < 120
        assert degrees_per_s[:, 2:].max() < 180
        assert degrees_per_s[[0, -1]].max() < 2


def test_joint_positions_do_not_tell_the_target(reaches) -> None:
    starts = np.array([path[0, :6] for path, _ in reaches])
    discs = np.array([disc[:2] for _, disc in reaches])
    correlation = np.corrcoef(starts.T, discs.T)[:6, 6:]
    assert np.abs(correlation).max() < 0.45  # 50 samples of independent values: 3 / sqrt(50)


def test_both_cameras_show_where_the_disc_is(reaches) -> None:
    seen = 0
    for path, disc in reaches:
        pictures = demo.render(path[:1], disc, 64)
        assert {name: (p.shape, p.dtype.name) for name, p in pictures.items()} == {
            demo.TOP: ((1, 64, 64, 3), "uint8"),
            demo.WRIST: ((1, 64, 64, 3), "uint8"),
        }
        mask = red(pictures[demo.TOP][0])
        if mask.sum() < 5:
            continue  # under the arm
        seen += 1
        row, column = np.argwhere(mask).mean(0) + 0.5
        # The camera hangs 2.2 m above (0.42, 0) and sees 2.2 m / 1.6 of the table; x points up.
        metres_per_pixel = 2.2 / 1.6 / 64
        place = np.array([0.42 - (row - 32) * metres_per_pixel, -(column - 32) * metres_per_pixel])
        np.testing.assert_allclose(place, disc[:2], atol=0.03)
    assert seen > 35


def test_wrist_camera_sees_the_disc_between_the_fingers_on_arrival(reaches) -> None:
    for path, disc in reaches:
        picture = demo.render(path[-1:], disc, 64)[demo.WRIST][0]
        rows, columns = np.nonzero(red(picture))
        assert len(rows) > 100
        assert 30 < rows.mean() < 40
        assert abs(columns.mean() - 31.5) < 2


def test_the_disc_moves_in_the_wrist_camera_as_the_arm_does() -> None:
    """Raised by 10 cm the disc looks smaller; moved aside it moves the other way."""
    path, disc = demo.plan_reach(np.random.default_rng(1), FRAMES)
    higher = demo.solve_ik(
        disc + [0, 0, demo.GRASP_HEIGHT + 0.1], demo.link_frames(path[-1, :6])[-1, :3, :3], path[-1, :6]
    )
    states = np.stack([path[-1], [*higher, 1.0]])
    masks = red(demo.render(states, disc, 64)[demo.WRIST])
    assert masks[1].sum() < 0.7 * masks[0].sum()


def test_dataset_on_disk(tmp_path: Path) -> None:
    root = tmp_path / "demo"
    command = [sys.executable, "-m", "ur10e_act.dataset.demo", "--output", root, "--seed", "3"]
    command += ["--episodes", "3", "--frames", str(FRAMES)]
    subprocess.run(command, check=True)
    dataset = open_dataset([root])
    assert (dataset.robot_type, dataset.fps, dataset.num_frames) == ("ur10e", demo.FPS, 3 * FRAMES)
    assert dataset.cameras == (demo.TOP, demo.WRIST)
    assert dataset.state_names == dataset.action_names == demo.STATE_NAMES
    path, disc = demo.plan_reach(np.random.default_rng([3, 1]), FRAMES)
    np.testing.assert_array_equal(dataset.read_states(1), path[:-1].astype(np.float32))
    # The action is the next frame's position.
    np.testing.assert_array_equal(dataset.read_actions(1)[:-1], dataset.read_states(1)[1:])
    for camera, expected in demo.render(path[:-1], disc, 64).items():
        read = dataset.frames.read(camera, 1, range(FRAMES))
        error = read.astype(float) - expected
        assert 10 * np.log10(255**2 / (error**2).mean()) > 32
        if camera == demo.WRIST:  # videos have half the resolution in colour; the disc stays where it is
            assert (red(read) & red(expected)).sum() > 0.8 * red(expected).sum() > 1000

    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 2
    assert again.stderr == f"error: {root} exists already; remove it or choose another folder\n"


def test_same_seed_same_data_and_another_seed_another_motion(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        demo.write_demo(tmp_path / name, episodes=2, frames=10, seed=seed)
    files = [path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*") if path.is_file()]
    assert len(files) == 7
    for file in (file for file in files if file.suffix != ".mp4"):  # of those see test_writer.py
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file
    assert not np.array_equal(
        open_dataset([tmp_path / "a"]).read_states(0), open_dataset([tmp_path / "c"]).read_states(0)
    )
