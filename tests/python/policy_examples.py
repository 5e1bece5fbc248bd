"""Small policies on the sample dataset, shared by the tests of policy.py and checkpoint.py."""

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import torch
from lerobot.policies.act.modeling_act import ACTPolicy
from torch import Tensor

from ur10e_act.config import Config, ModelConfig, NormalizationConfig
from ur10e_act.dataset.lerobot_dataset import ChunkDataset, LeRobotV3Dataset, open_dataset
from ur10e_act.dataset.statistics import compute_stats
from ur10e_act.policy.act import build_policy

IMAGE_SIZE = (48, 64)
CHUNK_SIZE = 6


def tiny_config(
    visual: str = "MEAN_STD", state: str = "MEAN_STD", action: str = "MEAN_STD", **model
) -> Config:
    small = {
        "chunk_size": CHUNK_SIZE,
        "n_action_steps": CHUNK_SIZE,
        "pretrained_backbone_weights": None,
        "dim_model": 16,
        "n_heads": 2,
        "dim_feedforward": 32,
        "n_encoder_layers": 1,
        "n_vae_encoder_layers": 1,
        "latent_dim": 4,
        "normalization": NormalizationConfig(visual, state, action),
    }
    return Config(model=ModelConfig(**(small | model)))


def rename_camera(root: Path, new_root: Path, old: str, new: str) -> Path:
    """A copy of a dataset with one camera renamed, as if it had been recorded so."""
    shutil.copytree(root, new_root)
    info_path = new_root / "meta" / "info.json"
    info = json.loads(info_path.read_text())
    info["features"] = {new if name == old else name: value for name, value in info["features"].items()}
    info_path.write_text(json.dumps(info))
    (new_root / "videos" / old).rename(new_root / "videos" / new)
    for path in (new_root / "meta" / "episodes").rglob("*.parquet"):
        table = pq.read_table(path)
        pq.write_table(
            table.rename_columns([name.replace(f"/{old}/", f"/{new}/") for name in table.column_names]), path
        )
    return new_root


def small_dataset(root: Path) -> LeRobotV3Dataset:
    return open_dataset([root], image_size=IMAGE_SIZE)


def tiny_policy(dataset: LeRobotV3Dataset, config: Config, seed: int = 0) -> ACTPolicy:
    """Untrained, with the statistics of all episodes."""
    stats = compute_stats(dataset, range(len(dataset.episodes)), "imagenet")
    torch.manual_seed(seed)
    return build_policy(config, dataset, stats)


def padded_batch(dataset: LeRobotV3Dataset) -> dict[str, Tensor]:
    """Four samples of episode 0, uint8 images; the last two chunks reach 3 and 5 steps past its end."""
    samples = ChunkDataset(dataset, [0], CHUNK_SIZE)
    chosen = [0, 10, len(samples) - CHUNK_SIZE + 3, len(samples) - 1]
    return torch.utils.data.default_collate([samples[i] for i in chosen])


def as_lerobot_expects(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Images as float32 in [0, 1]."""
    return {key: value / 255 if value.dtype == torch.uint8 else value for key, value in batch.items()}
