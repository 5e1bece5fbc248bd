"""Resizing images, the same for datasets, conversion and the robot."""

from __future__ import annotations

import numpy as np
import torch
from torchvision.transforms.v2 import functional


def resize_frames(frames: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize uint8 (n, H, W, 3) to uint8 (n, height, width, 3); ``size`` is (height, width) in px.

    Antialiased bilinear, computed on uint8 by torchvision. Dataset reader and policy runner share it, so a
    policy sees on the robot what it saw in training.
    """
    if frames.shape[1:3] == tuple(size):
        return frames
    images = torch.from_numpy(np.require(frames, requirements=["C", "W"])).permute(0, 3, 1, 2)
    resized = functional.resize(images, list(size), functional.InterpolationMode.BILINEAR, antialias=True)
    return np.ascontiguousarray(resized.permute(0, 2, 3, 1).numpy())
