"""A dataset of four episodes, two cameras and a scalar, to write and to compare with."""

from pathlib import Path

import numpy as np

from ur10e_act.dataset.writer import DatasetWriter

HEIGHT, WIDTH, FPS = 64, 96, 10
CAMERAS = ("observation.images.top", "observation.images.wrist_left")
LENGTHS = (7, 12, 5, 9)  # odd ones too: an episode's first frame must be a key frame whatever lies before it
ROLLED = {"data_file_size_bytes": 1250, "video_file_size_bytes": 9000}  # two or three episodes each
TASKS = ("reach", "grasp", "reach", "reach")
QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}


def features() -> dict[str, dict]:
    joints = {"dtype": "float32", "shape": (3,), "names": ("shoulder", "elbow", "gripper")}
    picture = {"dtype": "video", "shape": (HEIGHT, WIDTH, 3), "names": ["height", "width", "channels"]}
    return {
        "observation.state": joints,
        "action": joints,
        "next.reward": {"dtype": "float32", "shape": (1,), "names": None},
        **dict.fromkeys(CAMERAS, picture),
    }


def columns(episode: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(episode)
    shape = (LENGTHS[episode], 3)
    values = {name: random.normal(size=shape).astype(np.float32) for name in ("observation.state", "action")}
    return values | {"next.reward": np.arange(LENGTHS[episode], dtype=np.float32)}


def pictures(episode: int, camera: str) -> np.ndarray:
    """Smooth gradients; a block as bright as the frame's number says, by which neighbours are told apart."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    frames = []
    for frame in range(LENGTHS[episode]):
        phase = 7 * frame + 50 * episode + 20 * CAMERAS.index(camera)
        picture = np.stack(
            [127 + 100 * np.sin((x + phase) / 20), 2 * y + phase % 50, 200 - y - x // 2], axis=2
        )
        picture[16:48, 32:64] = 8 * (frame + 12 * (episode % 2))
        frames.append(np.clip(picture, 0, 255).astype(np.uint8))
    return np.stack(frames)


def write(root: Path, **options) -> Path:
    with DatasetWriter(root, FPS, "ur10e", features(), **options) as writer:
        for episode, task in enumerate(TASKS):
            images = {camera: iter(pictures(episode, camera)) for camera in CAMERAS}
            assert writer.add_episode(columns(episode), images, task) == episode
    return root
