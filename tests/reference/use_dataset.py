"""Let a reference version of lerobot read a dataset that this project wrote, and edit it with its own tools.

    REFERENCE_VENV/bin/python use_dataset.py DATASET OUT

writes OUT/items.npz (every item of the dataset with a chunk of actions) and the datasets OUT/deleted (without
episode 0) and OUT/merged (the dataset twice).
"""

import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
from lerobot.datasets import dataset_tools
from lerobot.datasets.lerobot_dataset import LeRobotDataset

CHUNK_SIZE = 8
VECTORS = (
    "observation.state",
    "action",
    "action_is_pad",
    "timestamp",
    "episode_index",
    "index",
    "task_index",
)


def read(root: Path, **options) -> LeRobotDataset:
    return LeRobotDataset(root.name, root=root, video_backend="pyav", **options)


def main(root: Path, out: Path) -> None:
    plain = read(root)
    chunk = {"action": [step / plain.fps for step in range(CHUNK_SIZE)]}
    dataset = read(root, delta_timestamps=chunk)
    items = [dataset[index] for index in range(len(dataset))]
    columns = {name: np.stack([item[name].numpy() for item in items]) for name in VECTORS}
    for camera in dataset.meta.camera_keys:
        levels = np.stack([item[camera].numpy() for item in items]).transpose(0, 2, 3, 1) * 255
        columns[camera] = np.rint(levels).astype(np.uint8)
    stats = {
        f"stats/{name}/{key}": value
        for name, values in dataset.meta.stats.items()
        for key, value in values.items()
    }
    np.savez(out / "items.npz", tasks=[item["task"] for item in items], **columns, **stats)

    dataset_tools.delete_episodes(plain, [0], output_dir=out / "deleted", repo_id="deleted")
    dataset_tools.merge_datasets([plain, plain], output_dir=out / "merged", output_repo_id="merged")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
