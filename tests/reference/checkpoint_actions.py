"""The actions of a checkpoint under whatever lerobot version runs this: 0.3.2, 0.4 or later.

    PYTHON checkpoint_actions.py OBSERVATIONS.npz OUTPUT_DIR PRETRAINED_MODEL...

OBSERVATIONS.npz holds by feature name "observation.state" (N, D) float32 and each camera (N, 3, H, W) uint8.
For each folder, OUTPUT_DIR/FOLDER_NAME.npz gets "chunks" (N, chunk_size, A), each predicted from one
observation, "actions" (N, A), what select_action returns when the observations come one after the other,
and "version". Only stock LeRobot is used, on the CPU.
"""

import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from lerobot.policies.act.modeling_act import ACTPolicy


def load(folder: Path):
    """The policy, and what goes before and after it in this version."""
    policy = ACTPolicy.from_pretrained(folder)
    if version("lerobot").startswith("0.3."):
        return policy, lambda observation: observation, lambda action: action
    from lerobot.policies.factory import make_pre_post_processors

    return policy, *make_pre_post_processors(policy.config, pretrained_path=str(folder))


def main() -> None:
    observations_path, output_dir, *folders = map(Path, sys.argv[1:])
    observations = np.load(observations_path)

    def observation(i: int) -> dict[str, torch.Tensor]:
        tensors = {key: torch.from_numpy(observations[key][i : i + 1]) for key in observations.files}
        return {key: value / 255 if value.dtype == torch.uint8 else value for key, value in tensors.items()}

    count = len(observations["observation.state"])
    for folder in folders:
        policy, before, after = load(folder)
        with torch.no_grad():
            chunks = [after(policy.predict_action_chunk(before(observation(i))))[0] for i in range(count)]
            policy.reset()
            actions = [after(policy.select_action(before(observation(i))))[0] for i in range(count)]
        arrays = {"chunks": torch.stack(chunks).numpy(), "actions": torch.stack(actions).numpy()}
        np.savez(output_dir / f"{folder.name}.npz", **arrays, version=version("lerobot"))


if __name__ == "__main__":
    main()
