"""Normalization statistics over the training episodes, streamed: memory does not grow with the dataset.

They are recomputed from the frames, since meta/stats.json of lerobot 0.4 has a wrong standard deviation of
images and covers held-out episodes too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from PIL import Image

from ur10e_act.dataset.features import ACTION, STATE
from ur10e_act.dataset.lerobot_dataset import LeRobotV3Dataset
from ur10e_act.dataset.pixel_counts import count_pixels, level_stats

FRAMES_AT_A_TIME = 16
LEVELS = np.arange(256) / 255
# ImageNet's, which LeRobot takes by default for its pretrained backbone.
IMAGENET = {
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
    "min": (0.0, 0.0, 0.0),
    "max": (1.0, 1.0, 1.0),
}


@dataclass(frozen=True)
class PixelHistograms:
    """How often each level of each colour occurs: camera -> int64 (3, 256). Exact in any order of merging."""

    counts: dict[str, np.ndarray]

    def merge(self, other: PixelHistograms) -> PixelHistograms:
        return PixelHistograms({camera: n + other.counts[camera] for camera, n in self.counts.items()})


def count_images(dataset: LeRobotV3Dataset, episodes: Sequence[int]) -> PixelHistograms:
    """Count the pixels of every camera over whole episodes, decoding FRAMES_AT_A_TIME frames at once."""
    histograms = {camera: np.zeros((3, 256), dtype=np.int64) for camera in dataset.cameras}
    for camera, counts in histograms.items():
        for episode in episodes:
            length = dataset.episodes[episode].length
            for start in range(0, length, FRAMES_AT_A_TIME):
                frames = range(start, min(start + FRAMES_AT_A_TIME, length))
                for image in dataset.frames.read(camera, episode, frames):
                    counts += count_pixels(Image.fromarray(image))
    return PixelHistograms(histograms)


def compute_stats(
    dataset: LeRobotV3Dataset,
    episodes: Sequence[int],
    image_stats: Literal["imagenet", "dataset"],
    histograms: PixelHistograms | None = None,
) -> dict[str, dict[str, torch.Tensor]]:
    """Statistics over the frames of ``episodes``: feature -> {"mean", "std", "min", "max"}, float32.

    Vectors have shape (D,) in dataset units, cameras (3, 1, 1) on [0, 1]. LeRobot divides by the deviation or
    by the range; where a dimension never changes these are set to 1 so that it becomes 0 (or -1) instead of
    blowing up.

    Args:
        image_stats: "imagenet" (nothing is decoded) or "dataset".
        histograms: counts gathered elsewhere, such as merged over ranks; computed here when None.
    """
    stats = {
        STATE: _widen_constant(_vector_stats([dataset.read_states(episode) for episode in episodes])),
        ACTION: _widen_constant(_vector_stats([dataset.read_actions(episode) for episode in episodes])),
    }
    if image_stats == "imagenet":
        images: Mapping[str, Mapping[str, np.ndarray]] = {
            camera: {name: np.array(value) for name, value in IMAGENET.items()} for camera in dataset.cameras
        }
    else:
        counted = histograms or count_images(dataset, episodes)
        images = {
            name: _widen_constant(level_stats(counted.counts[name], LEVELS)) for name in dataset.cameras
        }
    for camera in dataset.cameras:
        stats[camera] = {name: value.reshape(3, 1, 1) for name, value in images[camera].items()}
    return {
        feature: {name: torch.from_numpy(value.astype(np.float32)) for name, value in values.items()}
        for feature, values in stats.items()
    }


def _vector_stats(parts: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Mean and deviation in two passes of float64; ``parts`` are views of what the dataset holds anyway."""
    count = sum(len(part) for part in parts)
    mean = sum(part.sum(axis=0, dtype=np.float64) for part in parts) / count
    variance = sum(np.square(part - mean).sum(axis=0) for part in parts) / count
    least = np.min([part.min(axis=0) for part in parts], axis=0)
    most = np.max([part.max(axis=0) for part in parts], axis=0)
    return {"mean": mean, "std": np.sqrt(variance), "min": least, "max": most}


def _widen_constant(stats: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    constant = stats["min"] == stats["max"]
    return {
        "mean": stats["mean"],
        "std": np.where(constant, 1.0, stats["std"]),
        "min": stats["min"],
        "max": np.where(constant, stats["min"] + 1.0, stats["max"]),
    }
