"""Compare the project's reader with what LeRobotDataset read (dumps of lerobot_reference.py); prints a table.

python compare_reader.py OUT [NAME ...]      # exit status 1 when anything differs
"""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "python"))

from ur10e_act.dataset.dataset_error import DatasetError
from ur10e_act.dataset.lerobot_dataset import ChunkDataset, open_dataset

EXACT = ("observation.state", "action", "action_is_pad", "timestamp", "frame_index", "episode_index", "index")
EXACT += ("task_index", "task")


def differences(root: Path, dump: Path, order: str) -> dict[str, float]:
    """Largest absolute difference per kind, images in levels of 255; ``order`` is forward or shuffled."""
    dataset = open_dataset([root])
    reference = np.load(dump)
    samples = ChunkDataset(dataset, range(len(dataset.episodes)), reference["action"].shape[1])
    if len(samples) != len(reference["index"]):
        return {"frames": abs(len(samples) - len(reference["index"]))}
    indices = np.arange(len(samples))
    if order == "shuffled":
        indices = np.random.default_rng(0).permutation(indices)
    worst = dict.fromkeys([*EXACT, "image"], 0.0)
    images = [name for name in reference.files if name.startswith("observation.images.")]
    stored = {name: reference[name] for name in reference.files}
    for index in indices:
        sample = samples[int(index)]
        sample["task"] = dataset.tasks[int(sample["task_index"])]
        for name in EXACT:
            right = stored[name][index]
            if name == "task":
                difference = float(sample[name] != str(right))
            else:
                mine = sample[name].numpy()
                assert mine.dtype == right.dtype and mine.shape == right.shape, (
                    name,
                    mine.dtype,
                    right.dtype,
                )
                difference = np.abs(mine.astype(np.float64) - right.astype(np.float64)).max()
            worst[name] = max(worst[name], float(difference))
        for name in images:
            difference = np.abs(sample[name].numpy().astype(int) - stored[name][index].astype(int)).max()
            worst["image"] = max(worst["image"], float(difference))
    return worst


def main() -> int:
    out, names = Path(sys.argv[1]), sys.argv[2:]
    failed = False
    for dump in sorted(out.glob("**/*.read_by_*.npz")):
        name, _, reader = dump.name.removesuffix(".npz").partition(".read_by_")
        if names and name not in names:
            continue
        root = dump.with_name(name)
        for order in ("forward", "shuffled"):
            try:
                worst = differences(root, dump, order)
            except DatasetError as error:
                worst = {str(error): 1.0}
            exact = max((value for kind, value in worst.items() if kind != "image"), default=0.0)
            bad = exact > 0 or worst.get("image", 255) > 1
            failed |= bad
            print(
                f"{root.relative_to(out)!s:45} read by {reader} {order:8} "
                f"vectors, padding, timestamps, indices, task: {exact:g}  image: {worst.get('image')}/255"
                f"{'  DIFFERS ' + str(worst) if bad else ''}"
            )
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
