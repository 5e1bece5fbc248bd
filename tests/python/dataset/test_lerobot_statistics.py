"""lerobot_statistics.py: what is written beside the frames equals numpy's statistics of them."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from written_dataset import CAMERAS, FPS, QUANTILES, columns, pictures, write

from ur10e_act.dataset.lerobot_statistics import QUANTILE_BINS
from ur10e_act.dataset.writer import DatasetWriter


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("written") / "dataset")


def test_statistics_are_those_of_all_frames(written: Path) -> None:
    stats = json.loads((written / "meta" / "stats.json").read_text())
    episodes = pq.read_table(written / "meta" / "episodes").to_pylist()
    for scope, found in (
        (range(4), lambda name, key: stats[name][key]),
        ([2], lambda n, k: episodes[2][f"stats/{n}/{k}"]),
    ):
        states = np.concatenate([columns(episode)["observation.state"] for episode in scope]).astype(float)
        expected = {"min": states.min(0), "max": states.max(0), "mean": states.mean(0), "std": states.std(0)}
        for key, value in expected.items():
            np.testing.assert_allclose(found("observation.state", key), value, rtol=0, atol=1e-6)
        assert found("observation.state", "count") == [len(states)]
        images = np.concatenate([pictures(episode, CAMERAS[1]) for episode in scope]) / 255
        flat = images.reshape(-1, 3)
        expected = {"min": flat.min(0), "max": flat.max(0), "mean": flat.mean(0), "std": flat.std(0)}
        expected |= {
            key: np.quantile(flat, share, axis=0, method="inverted_cdf") for key, share in QUANTILES.items()
        }
        for key, value in expected.items():
            shaped = np.array(found(CAMERAS[1], key))
            assert shaped.shape == (3, 1, 1)
            np.testing.assert_allclose(shaped[:, 0, 0], value, rtol=0, atol=1e-9)
        assert found(CAMERAS[1], "count") == [len(images)]


def test_quantiles_are_those_of_all_frames(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    values = [random.normal(shift, size=(1500, 2)).astype(np.float32) for shift in (0, 8)]
    values[1][:, 1] = 3.0
    vector = {"dtype": "float32", "shape": (2,), "names": None}
    with DatasetWriter(tmp_path / "dataset", FPS, "ur10e", {"action": vector}) as writer:
        for episode in values:
            writer.add_episode({"action": episode}, {}, "reach")
    stats = json.loads((tmp_path / "dataset" / "meta" / "stats.json").read_text())["action"]
    rows = pq.read_table(tmp_path / "dataset" / "meta" / "episodes").to_pylist()
    pooled = np.concatenate(values)
    step = (pooled.max(0) - pooled.min(0)).max() / QUANTILE_BINS
    for key, share in QUANTILES.items():
        expected = np.quantile(pooled, share, axis=0, method="inverted_cdf")
        np.testing.assert_allclose(stats[key], expected, rtol=0, atol=1.01 * step)
        for row, episode in zip(rows, values, strict=True):
            exact = np.quantile(episode, share, axis=0)
            np.testing.assert_allclose(row[f"stats/action/{key}"], exact, rtol=0, atol=1e-6)
