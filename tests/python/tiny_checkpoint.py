"""A checkpoint as train.py leaves it, with random weights: what the evaluation's tests run on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
import yaml

from train import describe
from ur10e_act.config import Config, load_config
from ur10e_act.dataset.lerobot_dataset import ChunkDataset, LeRobotV3Dataset, open_dataset
from ur10e_act.dataset.statistics import compute_stats
from ur10e_act.policy.act import build_policy
from ur10e_act.policy.checkpoint import save_checkpoint

IMAGE_SIZE = (48, 64)
CHUNK_SIZE = 8
TRAIN_EPISODES, HELD_OUT_EPISODES = (0, 1, 2, 3), (4, 5)


def tiny_config(folder: Path, root: Path, **model: object) -> Config:
    """Configuration of an ACT policy that runs in milliseconds."""
    small = {
        "chunk_size": CHUNK_SIZE,
        "n_action_steps": CHUNK_SIZE,
        "pretrained_backbone_weights": None,
        "dim_model": 32,
        "n_heads": 2,
        "dim_feedforward": 64,
        "n_encoder_layers": 1,
        "n_vae_encoder_layers": 1,
    }
    raw = {
        "data": {"roots": [str(root)], "image_size": list(IMAGE_SIZE)},
        "model": {**small, **model},
        "eval": {"latency_frames": 3, "latency_warmup_frames": 1, "batch_size": 16},
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    return load_config(folder / "config.yaml")


def write_tiny_checkpoint(
    output: Path, root: Path, *, cameras: Sequence[str] | None = None, **model: object
) -> Path:
    """A training output folder with one checkpoint (step 100); returns it."""
    config = tiny_config(output, root, **model)
    dataset: LeRobotV3Dataset = open_dataset([root], cameras=cameras, image_size=IMAGE_SIZE)
    torch.manual_seed(0)
    policy = build_policy(config, dataset, compute_stats(dataset, TRAIN_EPISODES, "imagenet"))
    chunk_size = config.model.chunk_size
    train_set = ChunkDataset(dataset, TRAIN_EPISODES, chunk_size)
    info = describe(dataset, train_set, ChunkDataset(dataset, HELD_OUT_EPISODES, chunk_size), config)
    save_checkpoint(output, 100, policy, config, info, {"step": 100}, best=True, keep=3)
    return output
