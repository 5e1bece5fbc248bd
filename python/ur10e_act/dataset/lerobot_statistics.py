"""Statistics as LeRobot keeps them: of each episode in meta/episodes, of all frames in meta/stats.json."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from ur10e_act.dataset.pixel_counts import level_stats

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
QUANTILE_BINS = 10_000


def vector_stats(array: np.ndarray) -> dict[str, list]:
    """Statistics of one episode's column (n, D), each a list of D numbers."""
    exact = array.astype(np.int64 if array.dtype.kind in "iub" else np.float64)
    values = array.astype(np.float64)
    return {
        "min": exact.min(0).tolist(),
        "max": exact.max(0).tolist(),
        "mean": values.mean(0).tolist(),
        "std": values.std(0).tolist(),
        "count": [len(array)],
        **{key: np.quantile(values, share, axis=0).tolist() for key, share in QUANTILES.items()},
    }


def image_stats(counts: np.ndarray, frames: int) -> dict[str, list]:
    """Statistics in [0, 1], (3, 1, 1) each, of ``frames`` images with pixel counts int64 (3, 256)."""
    pixels, cumulative = counts.sum(1), counts.cumsum(1)
    basic = level_stats(counts, np.arange(256))
    quantiles = {key: (cumulative < share * pixels[:, None]).sum(1) for key, share in QUANTILES.items()}
    shaped = {key: (value / 255).reshape(3, 1, 1).tolist() for key, value in (basic | quantiles).items()}
    return {
        **{key: shaped[key] for key in basic},
        "count": [frames],
        **{key: shaped[key] for key in quantiles},
    }


def pooled_stats(
    read: Callable[[], Iterable[np.ndarray]], feature: dict[str, Any], frames: int
) -> dict[str, list]:
    """Statistics of a column over all ``frames``, read twice, as float64 (n, D) an episode at a time.

    Quantiles are exact to one of QUANTILE_BINS equal steps from minimum to maximum; memory holds no more than
    an episode.
    """
    width = feature["shape"][0]
    low, high, total = np.full(width, np.inf), np.full(width, -np.inf), np.zeros(width)
    for array in read():
        low, high = np.minimum(low, array.min(0)), np.maximum(high, array.max(0))
        total += array.sum(0)
    mean, span = total / frames, np.where(high > low, high - low, 1.0)
    squares = np.zeros(width)
    histogram = np.zeros((width, QUANTILE_BINS), np.int64)
    for array in read():
        squares += ((array - mean) ** 2).sum(0)
        bins = np.minimum((array - low) / span * QUANTILE_BINS, QUANTILE_BINS - 1).astype(np.int64)
        for dimension, row in enumerate(histogram):
            row += np.bincount(bins[:, dimension], minlength=QUANTILE_BINS)
    quantiles = {}
    for key, share in QUANTILES.items():
        place = [_histogram_quantile(row, share) for row in histogram]
        quantiles[key] = np.minimum(low + np.array(place) / QUANTILE_BINS * span, high)
    exact = np.int64 if np.dtype(feature["dtype"]).kind in "iub" else np.float64
    return {
        "min": low.astype(exact).tolist(),
        "max": high.astype(exact).tolist(),
        "mean": mean.tolist(),
        "std": np.sqrt(squares / frames).tolist(),
        "count": [frames],
        **{key: value.tolist() for key, value in quantiles.items()},
    }


def _histogram_quantile(histogram: np.ndarray, share: float) -> float:
    """Where, in bins from the left, ``share`` of the counts is reached."""
    cumulative = histogram.cumsum()
    target = share * cumulative[-1]
    number = int(np.searchsorted(cumulative, target))
    return number + (target - (cumulative[number] - histogram[number])) / histogram[number]
