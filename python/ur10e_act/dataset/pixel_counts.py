"""Counting how often each level of each colour occurs in images, and the statistics that this gives.

256 counters a colour give mean, deviation, minimum and maximum exactly. Adding them up in any order gives the
same bits.
"""

from __future__ import annotations

import numpy as np
from PIL import Image


def count_pixels(image: Image.Image) -> np.ndarray:
    """How often each of the 256 levels occurs in R, G and B of an RGB or RGBX image: int64 (3, 256)."""
    return np.array(image.histogram()[:768], np.int64).reshape(3, 256)


def level_stats(counts: np.ndarray, levels: np.ndarray) -> dict[str, np.ndarray]:
    """min, max, mean and (population) std of each colour, (3,), for counts (3, 256) and what levels mean."""
    pixels = counts.sum(axis=1)
    mean = counts @ levels / pixels
    variance = (counts * np.square(levels - mean[:, None])).sum(axis=1) / pixels
    seen = counts > 0
    return {
        "min": levels[seen.argmax(axis=1)],
        "max": levels[255 - seen[:, ::-1].argmax(axis=1)],
        "mean": mean,
        "std": np.sqrt(variance),
    }
