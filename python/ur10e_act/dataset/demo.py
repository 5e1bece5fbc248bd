"""Writes a small LeRobot v3.0 dataset of a UR10e reaching for a coloured disc.

The disc lies at a random place on the table and the arm starts in a random pose, so the joint positions alone
do not tell where the motion will end: only the two cameras do. The arm moves by the UR10e's own kinematics,
in minimum-jerk profiles, and closes its gripper on arrival.

    python -m ur10e_act.dataset.demo --output outputs/smoke/dataset --episodes 40 --frames 50 --seed 0
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ur10e_act.dataset.features import ACTION, CAMERA_PREFIX, STATE
from ur10e_act.dataset.writer import DatasetWriter
from ur10e_act.errors import UserError, run_cli

JOINTS = ("shoulder_pan", "shoulder_lift", "elbow", "wrist_1", "wrist_2", "wrist_3")
STATE_NAMES = (*JOINTS, "gripper")
TOP, WRIST = CAMERA_PREFIX + "top", CAMERA_PREFIX + "wrist"
FPS = 20
TASK = "Reach the red disc and close the gripper"

# Denavit-Hartenberg parameters of the UR10e as Universal Robots publishes them (m, rad), one row a joint.
DH_A = np.array([0.0, -0.6127, -0.57155, 0.0, 0.0, 0.0])
DH_D = np.array([0.1807, 0.0, 0.0, 0.17415, 0.11985, 0.11655])
DH_ALPHA = np.array([np.pi / 2, 0.0, 0.0, np.pi / 2, -np.pi / 2, 0.0])
GRIPPER_LENGTH, PALM_LENGTH = 0.16, 0.07  # m, flange to fingertips, flange to the fingers' roots
FINGER_SPREAD = 0.045  # m, half the distance between the open fingers

READY = np.array([-0.3, -1.75, 1.9, -1.72, -1.57, 0.0])  # rad: above the table, tool down
START_SPREAD = np.array([0.6, 0.2, 0.25, 0.2, 0.2, 0.5])  # rad, half-width of the start poses around READY
TARGET_X, TARGET_Y = (0.42, 0.92), (-0.6, 0.6)  # m, where the disc may lie
DISC_RADIUS = 0.06  # m
GRASP_HEIGHT = 0.03  # m, fingertips above the table on arrival

TABLE = (0.45, 0.0, 0.7, 0.75)  # m: centre x, y and half sizes
FLOOR, WOOD, DARK, STEEL, BLUE, RED = np.array(
    [(92, 96, 104), (196, 176, 148), (52, 54, 60), (206, 210, 216), (98, 140, 190), (214, 30, 36)], np.float32
)


@dataclass(frozen=True)
class Camera:
    """Pinhole camera; `rotation` holds its axes (right, down, forward) as columns in base coordinates."""

    position: np.ndarray  # (..., 3) m
    rotation: np.ndarray  # (..., 3, 3)
    focal: float  # image heights


def link_frames(joints: np.ndarray) -> np.ndarray:
    """Poses of the base and the six links, (..., 7, 4, 4), for joint positions (..., 6) in rad.

    In ROS's `base_link` frame: UR's own base turned by half a turn, so that the arm at zero pan faces +x.
    """
    cos, sin = np.cos(joints), np.sin(joints)
    step = np.zeros((*joints.shape, 4, 4))
    ca, sa = np.cos(DH_ALPHA), np.sin(DH_ALPHA)
    step[..., 0, 0], step[..., 0, 1], step[..., 0, 2], step[..., 0, 3] = cos, -sin * ca, sin * sa, DH_A * cos
    step[..., 1, 0], step[..., 1, 1], step[..., 1, 2], step[..., 1, 3] = sin, cos * ca, -cos * sa, DH_A * sin
    step[..., 2, 1], step[..., 2, 2], step[..., 2, 3], step[..., 3, 3] = sa, ca, DH_D, 1.0

    frames = np.zeros((*joints.shape[:-1], 7, 4, 4))
    frames[..., 0, :, :] = np.diag([-1.0, -1.0, 1.0, 1.0])
    for i in range(6):
        frames[..., i + 1, :, :] = frames[..., i, :, :] @ step[..., i, :, :]
    return frames


def fingertip(frames: np.ndarray) -> np.ndarray:
    """Position (..., 3) in m of the point between the fingertips."""
    return frames[..., 6, :3, 3] + GRIPPER_LENGTH * frames[..., 6, :3, 2]


def solve_ik(position: np.ndarray, rotation: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Joint positions (6,) that put the fingertips at `position` (m) with the flange's `rotation` (3, 3).

    Damped least squares from `start`, which therefore chooses the branch (elbow up, shoulder left).
    Raises ValueError where it does not converge.
    """
    joints = start.copy()
    for _ in range(100):
        frames = link_frames(joints)
        tip, actual = fingertip(frames), frames[6, :3, :3]
        turn = 0.5 * np.cross(actual, rotation, axis=0).sum(axis=1)
        error = np.concatenate([position - tip, turn])
        if np.abs(error).max() < 1e-8 and np.trace(actual.T @ rotation) > 0:
            return joints
        axes, origins = frames[:6, :3, 2], frames[:6, :3, 3]
        jacobian = np.concatenate([np.cross(axes, tip - origins), axes], axis=1).T
        step = jacobian.T @ np.linalg.solve(jacobian @ jacobian.T + 1e-4 * np.eye(6), error)
        joints = joints + np.clip(step, -0.3, 0.3)
    raise ValueError(f"no joint positions found for the fingertips at {position} m")


def minimum_jerk(start: np.ndarray, goal: np.ndarray, frames: int) -> np.ndarray:
    """(frames, D) positions from `start` (excluded) to `goal` (included), at rest at both ends."""
    t = np.arange(1, frames + 1)[:, None] / frames
    return start + (10 * t**3 - 15 * t**4 + 6 * t**5) * (goal - start)


def plan_reach(rng: np.random.Generator, frames: int) -> tuple[np.ndarray, np.ndarray]:
    """One reach: positions (frames + 1, 7), joints in rad, gripper 0 (open) to 1; the disc (3,) in m."""
    disc = np.array([rng.uniform(*TARGET_X), rng.uniform(*TARGET_Y), 0.0])
    tool_down = np.array([[0.0, -1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, -1.0]])
    seed = READY + [np.arctan2(disc[1], disc[0]), 0, 0, 0, 0, 0]
    goal = solve_ik(disc + [0.0, 0.0, GRASP_HEIGHT], tool_down, seed)
    start = goal
    # Every joint turns by 0.02 rad at least: checkers of datasets take one that rests for a dead one.
    while np.abs(goal - start).min() < 0.02:
        start = READY + rng.uniform(-1, 1, 6) * START_SPREAD

    moving, closing = round(0.75 * frames), max(1, round(0.12 * frames))
    path = np.empty((frames + 1, 7))
    path[:, :6], path[:, 6] = goal, 1.0
    path[0] = [*start, 0.0]
    path[1 : moving + 1, :6] = minimum_jerk(start, goal, moving)
    path[1 : moving + 1, 6] = 0.0
    path[moving + 1 : moving + 1 + closing, 6:] = minimum_jerk(np.zeros(1), np.ones(1), closing)
    return path, disc


def pixel_centres(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Column and row coordinates, float32 (size, size) each."""
    centre = np.arange(size, dtype=np.float32) + np.float32(0.5)
    return tuple(np.meshgrid(centre, centre))


def blend(picture: np.ndarray, cover: np.ndarray, colour: np.ndarray) -> None:
    """Paints `colour` over `image` (..., 3) in place where `cover` (...) is 1, mixed where it is less."""
    picture += cover[..., None] * (colour - picture)


def draw_table(camera: Camera, disc: np.ndarray, size: int) -> np.ndarray:
    """The table (z = 0) with its 10 cm grid and the disc, float32 (n, size, size, 3) in 0..255."""
    column, row = pixel_centres(size)
    scale = np.float32(1 / (camera.focal * size))
    right, down = (column - size / 2) * scale, (row - size / 2) * scale
    axes = camera.rotation.astype(np.float32)[:, None, None]
    ray = [right * axes[..., i, 0] + down * axes[..., i, 1] + axes[..., i, 2] for i in range(3)]
    eye = camera.position.astype(np.float32)[:, None, None]
    distance = eye[..., 2] / np.maximum(-ray[2], np.float32(1e-3))
    x, y = eye[..., 0] + distance * ray[0], eye[..., 1] + distance * ray[1]
    pixel = distance * scale  # m of table that a pixel sees: edges are as soft as that

    def cover(outside: np.ndarray) -> np.ndarray:
        return np.clip(0.5 - outside / pixel, 0.0, 1.0)

    picture = np.empty((*x.shape, 3), np.float32)
    picture[:] = FLOOR
    blend(picture, cover(np.maximum(np.abs(x - TABLE[0]) - TABLE[2], np.abs(y - TABLE[1]) - TABLE[3])), WOOD)
    from_line = np.minimum(np.abs(x - np.round(x, 1)), np.abs(y - np.round(y, 1)))
    blend(picture, 0.2 * np.clip(0.006 / pixel, 0.0, 1.0) * (from_line < np.maximum(0.003, pixel / 2)), DARK)
    blend(picture, cover(np.hypot(x - disc[0], y - disc[1]) - DISC_RADIUS), RED)
    return picture


def draw_rod(
    picture: np.ndarray, camera: Camera, ends: np.ndarray, radius: float, colour: np.ndarray
) -> None:
    """Draws a rod with round ends into `image` (n, size, size, 3); `ends` (n, 2, 3) and `radius` in m."""
    size = picture.shape[1]
    local = np.einsum("nij,nki->nkj", camera.rotation, ends - camera.position[:, None])
    depth = np.maximum(local[..., 2], 0.01)
    pixels = (local[..., :2] / depth[..., None] * camera.focal * size + size / 2).astype(np.float32)
    widths = (radius * camera.focal * size / depth).astype(np.float32)[:, :, None, None]

    column, row = pixel_centres(size)
    start, along = pixels[:, 0, :, None, None], (pixels[:, 1] - pixels[:, 0])[:, :, None, None]
    right, down = column - start[:, 0], row - start[:, 1]
    length = np.maximum((along**2).sum(axis=1), np.float32(1e-6))
    t = np.clip((right * along[:, 0] + down * along[:, 1]) / length, 0.0, 1.0)
    off_axis = np.hypot(right - t * along[:, 0], down - t * along[:, 1])
    width = widths[:, 0] + t * (widths[:, 1] - widths[:, 0])
    shade = 1.0 - 0.35 * np.minimum(off_axis / width, 1.0) ** 2
    blend(picture, np.clip(0.5 + width - off_axis, 0.0, 1.0), shade[..., None] * colour)


def top_camera(count: int) -> Camera:
    """Above the table, looking straight down; the robot's base is at the lower edge of the image."""
    axes = np.array([[0.0, -1.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, -1.0]])
    return Camera(np.tile([0.42, 0.0, 2.2], (count, 1)), np.tile(axes, (count, 1, 1)), focal=1.6)


def wrist_camera(frames: np.ndarray) -> Camera:
    """Beside the gripper on the flange, tilted towards the fingertips, for link frames (n, 7, 4, 4)."""
    flange, tilt = frames[:, 6], -0.25
    turn = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
    return Camera(flange[:, :3, 3] - 0.08 * flange[:, :3, 1], flange[:, :3, :3] @ turn, focal=0.6)


def gripper_rods(frames: np.ndarray, gripper: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """Ends (n, 2, 3) in m of the palm, and of both fingers, for link frames and gripper positions (n,)."""
    origin, sideways, forward = frames[:, 6, :3, 3], frames[:, 6, :3, 0], frames[:, 6, :3, 2]
    palm = np.stack([origin, origin + PALM_LENGTH * forward], axis=1)
    offset = (FINGER_SPREAD * (1.0 - 0.8 * gripper))[:, None] * sideways
    tips = np.stack([palm[:, 1], origin + GRIPPER_LENGTH * forward], axis=1)
    return palm, [tips - offset[:, None], tips + offset[:, None]]


def render(states: np.ndarray, disc: np.ndarray, size: int) -> dict[str, np.ndarray]:
    """What both cameras see, uint8 (n, size, size, 3) each; states (n, 7), and the disc's place (3,) in m."""
    frames = link_frames(states[:, :6])
    joints = frames[..., :3, 3]
    palm, fingers = gripper_rods(frames, states[:, 6])

    camera = top_camera(len(states))
    top = np.repeat(draw_table(top_camera(1), disc, size), len(states), axis=0)
    # From low to high: seen from above, what is higher covers the rest.
    for finger in fingers:
        draw_rod(top, camera, finger, 0.018, DARK)
    draw_rod(top, camera, palm, 0.035, DARK)
    for link, radius, colour in ((5, 0.045, STEEL), (4, 0.045, STEEL), (3, 0.045, STEEL), (0, 0.09, BLUE)):
        draw_rod(top, camera, joints[:, link : link + 2], radius, colour)
    for link, radius in ((1, 0.07), (2, 0.055)):
        draw_rod(top, camera, joints[:, link : link + 2], radius, STEEL)
        draw_rod(top, camera, joints[:, [link, link]], 1.15 * radius, BLUE)

    camera = wrist_camera(frames)
    wrist = draw_table(camera, disc, size)
    for finger in fingers:
        draw_rod(wrist, camera, finger, 0.012, DARK)
    return {name: np.clip(np.rint(p), 0, 255).astype(np.uint8) for name, p in ((TOP, top), (WRIST, wrist))}


def features(size: int) -> dict[str, dict]:
    """The dataset's features as info.json has them, with square images of `size` px."""
    picture = {"dtype": "video", "shape": [size, size, 3], "names": ["height", "width", "channels"]}
    joints = {"dtype": "float32", "shape": [len(STATE_NAMES)], "names": list(STATE_NAMES)}
    return {STATE: joints, ACTION: joints, TOP: picture, WRIST: picture}


def write_demo(
    root: Path | str,
    episodes: int,
    frames: int,
    seed: int = 0,
    fps: int = FPS,
    size: int = 64,
    overwrite: bool = False,
) -> None:
    """Writes `episodes` reaches of `frames` frames each; the same arguments give the same dataset.

    The action of a frame is the next frame's position (absolute), as LeRobot records teleoperation.
    """
    with DatasetWriter(root, fps, "ur10e", features(size), overwrite=overwrite) as writer:
        for episode in range(episodes):
            path, disc = plan_reach(np.random.default_rng([seed, episode]), frames)
            states = path[:-1]
            columns = {STATE: states, ACTION: path[1:]}
            writer.add_episode(columns, render(states, disc, size), TASK)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="folder of the new dataset")
    parser.add_argument("--episodes", type=int, default=80, help="(%(default)s)")
    parser.add_argument("--frames", type=int, default=50, help="frames an episode (%(default)s)")
    parser.add_argument("--fps", type=int, default=FPS, help="frames a second (%(default)s)")
    parser.add_argument("--size", type=int, default=64, help="height and width in px (%(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--overwrite", action="store_true", help="replace an older dataset in this folder")
    args = parser.parse_args(argv)
    if args.episodes < 1 or args.frames < 10 or args.size < 16:
        raise UserError("--episodes must be at least 1, --frames at least 10, --size at least 16")
    try:
        write_demo(args.output, args.episodes, args.frames, args.seed, args.fps, args.size, args.overwrite)
    except OSError as error:
        raise UserError(f"{args.output}: cannot be written ({error})") from error
    print(f"{args.output}: {args.episodes} episodes of {args.frames} frames, {args.fps} Hz, {args.size} px")


if __name__ == "__main__":
    run_cli(main)
