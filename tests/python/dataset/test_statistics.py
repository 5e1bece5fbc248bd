"""Statistics: equal to numpy's over all frames at once, whatever the order, the batches and the ranks."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ur10e_act.dataset import statistics as stats_module
from ur10e_act.dataset.lerobot_dataset import open_dataset
from ur10e_act.dataset.statistics import PixelHistograms, compute_stats, count_images

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
NAMES = ["h264_deleted_by_lerobot_0_4_4", "image_deleted_by_lerobot_0_4_4"]


def all_frames(dataset, camera: str, episodes) -> np.ndarray:
    read = [dataset.frames.read(camera, e, range(dataset.episodes[e].length)) for e in episodes]
    return np.concatenate(read) / 255  # float64 (n, H, W, 3)


@pytest.mark.parametrize("name", NAMES)
def test_equal_to_numpy_over_the_chosen_episodes(name):
    dataset = open_dataset([FIXTURES / name])
    episodes = [0, 2]
    found = compute_stats(dataset, episodes, "dataset")
    for feature, read in (("observation.state", dataset.read_states), ("action", dataset.read_actions)):
        values = np.concatenate([read(episode) for episode in episodes]).astype(np.float64)
        for key in ("mean", "std", "min", "max"):
            assert found[feature][key].dtype == torch.float32
            np.testing.assert_allclose(
                found[feature][key], getattr(values, key)(axis=0), rtol=1e-6, atol=1e-7
            )
    for camera in dataset.cameras:
        frames = all_frames(dataset, camera, episodes)
        for key in ("mean", "std", "min", "max"):
            assert found[camera][key].shape == (3, 1, 1)
            assert found[camera][key].dtype == torch.float32
            right = getattr(frames, key)(axis=(0, 1, 2))
            np.testing.assert_allclose(found[camera][key].flatten(), right, rtol=1e-6)
    others = compute_stats(dataset, [1], "dataset")
    assert not torch.equal(found["action"]["mean"], others["action"]["mean"])


def test_the_sample_has_another_image_deviation_than_its_stats_json(sample_root):
    dataset = open_dataset([sample_root])
    camera = dataset.cameras[0]
    found = compute_stats(dataset, range(6), "dataset")[camera]["std"].flatten()
    assert found[0] == pytest.approx(0.2925, abs=1e-4)  # stats.json of lerobot 0.4.4 says 0.0015


def test_ranks_that_share_the_images_get_the_same_bits(monkeypatch):
    dataset = open_dataset([FIXTURES / NAMES[0]])
    alone = compute_stats(dataset, range(4), "dataset")
    monkeypatch.setattr(stats_module, "FRAMES_AT_A_TIME", 5)
    parts = [count_images(dataset, episodes) for episodes in ([3, 0], [1], [2])]
    merged = parts[2].merge(parts[0]).merge(parts[1])
    shared = compute_stats(dataset, range(4), "dataset", merged)
    for feature, values in alone.items():
        assert all(torch.equal(values[key], shared[feature][key]) for key in values)
    assert not torch.equal(
        compute_stats(dataset, range(4), "dataset", parts[1])[dataset.cameras[0]]["mean"],
        alone[dataset.cameras[0]]["mean"],
    )


def test_imagenet_statistics_decode_nothing(monkeypatch):
    dataset = open_dataset([FIXTURES / NAMES[0]])
    monkeypatch.setattr(dataset.frames, "read", None)
    found = compute_stats(dataset, [0], "imagenet")
    camera = found[dataset.cameras[1]]
    assert camera["mean"].flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])
    assert camera["std"].flatten().tolist() == pytest.approx([0.229, 0.224, 0.225])
    assert camera["min"].flatten().tolist() == [0, 0, 0]
    assert camera["max"].flatten().tolist() == [1, 1, 1]
    assert camera["mean"].shape == (3, 1, 1)


def test_memory_is_bounded_by_the_batch(monkeypatch):
    dataset = open_dataset([FIXTURES / NAMES[0]])
    asked: list[int] = []
    read = dataset.frames.read
    monkeypatch.setattr(
        dataset.frames,
        "read",
        lambda camera, e, frames: (asked.append(len(frames)), read(camera, e, frames))[1],
    )
    count_images(dataset, range(4))
    assert max(asked) == stats_module.FRAMES_AT_A_TIME
    assert sum(asked) == dataset.num_frames * len(dataset.cameras)


def test_a_dimension_that_never_changes_becomes_harmless(monkeypatch):
    dataset = open_dataset([FIXTURES / NAMES[0]])
    values = np.tile(np.float32([0.1, 0.0, -7.3, 1e-6, 5.0]), (9, 1))
    values[4, 4] = 6.0
    monkeypatch.setattr(dataset, "read_actions", lambda episode: values)
    action = compute_stats(dataset, [0, 1, 2], "imagenet")["action"]
    assert action["std"][:4].tolist() == [1, 1, 1, 1]
    assert 0 < action["std"][4] < 1
    assert torch.equal(action["max"][:4], action["min"][:4] + 1)
    assert action["max"][4] == 6
    black = PixelHistograms({camera: np.zeros((3, 256), dtype=np.int64) for camera in dataset.cameras})
    for counts in black.counts.values():
        counts[:, 0] = 1000
    camera = compute_stats(dataset, [0], "dataset", black)[dataset.cameras[0]]
    assert camera["std"].flatten().tolist() == [1, 1, 1]
    assert camera["max"].flatten().tolist() == [1, 1, 1]
