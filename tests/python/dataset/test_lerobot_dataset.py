"""Samples: equal to LeRobotDataset's, chunks within episodes, folders read as one, any number of workers."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from ur10e_act.dataset.dataset_error import DatasetError
from ur10e_act.dataset.lerobot_dataset import ChunkDataset, open_dataset, split_episodes

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
# What lerobot 0.4.4 and 0.6.1 (torchcodec) read from each fixture: tests/reference/write_fixtures.py.
EXPECTED = sorted(path.stem for path in FIXTURES.glob("*.npz"))


def copy_of(name: str, folder: Path) -> Path:
    return Path(shutil.copytree(FIXTURES / name, folder / name))


@pytest.mark.parametrize("name", EXPECTED)
def test_every_sample_equals_lerobots(name):
    dataset = open_dataset([FIXTURES / name])
    expected = dict(np.load(FIXTURES / f"{name}.npz"))
    samples = ChunkDataset(dataset, range(len(dataset.episodes)), expected["action"].shape[1])
    assert len(samples) == dataset.num_frames == len(expected["index"])
    cameras = [key.partition("some_pixels_of.")[2] for key in expected if key.startswith("some_pixels_of.")]
    assert list(dataset.cameras) == cameras
    equal_to_neighbour = 0
    for i in np.random.default_rng(0).permutation(len(samples)):
        sample = samples[int(i)]
        assert dataset.tasks[sample["task_index"]] == expected["task"][i]
        for key in set(expected) & set(sample):
            value = sample[key].numpy()
            assert value.dtype == expected[key].dtype and np.array_equal(value, expected[key][i]), (key, i)
        assert set(sample) - set(expected) == set(cameras)
        for camera in cameras:
            image = sample[camera].numpy().astype(int)
            rows, columns = image.shape[1] // 10, image.shape[2] // 10
            pixels = expected[f"some_pixels_of.{camera}"].astype(int)
            assert np.abs(image[:, ::rows, ::columns] - pixels[i]).max() <= 1, (camera, i)
            equal_to_neighbour += np.abs(image[:, ::rows, ::columns] - pixels[i - 1]).max() <= 1
            if i == len(samples) // 2:
                assert np.abs(image - expected[f"middle_frame_of.{camera}"].astype(int)).max() <= 1
    # The pixels tell frames apart: few frames look like the one before, where the arm stands still.
    assert equal_to_neighbour < 0.2 * len(samples) * len(cameras)


def test_the_sample_dataset(sample_root):
    dataset = open_dataset([sample_root])
    joints = ("shoulder_pan", "shoulder_lift", "elbow", "wrist_1", "wrist_2", "wrist_3", "gripper")
    assert (dataset.fps, dataset.robot_type) == (30, "ur10e")
    assert dataset.state_names == dataset.action_names == joints
    assert dataset.cameras == ("observation.images.top", "observation.images.wrist")
    assert dataset.image_shapes["observation.images.top"] == (240, 320)
    assert sum(episode.length for episode in dataset.episodes) == dataset.num_frames == 366
    assert dataset.episodes[1].tasks == ("reach the target",)
    states, actions = dataset.read_states(1), dataset.read_actions(1)
    assert states.dtype == actions.dtype == dataset.read_timestamps(1).dtype == np.float32
    assert states.shape == actions.shape == (dataset.episodes[1].length, 7)


def test_a_chunk_stops_at_its_episodes_end(sample_root):
    dataset = open_dataset([sample_root])
    samples = ChunkDataset(dataset, [4, 1], 10)
    first, second = dataset.episodes[4].length, dataset.episodes[1].length
    assert len(samples) == first + second
    actions = dataset.read_actions(4)
    for frame in (0, first - 11, first - 10, first - 9, first - 1):
        sample = samples[frame]
        left = min(10, first - frame)
        assert sample["action_is_pad"].tolist() == [False] * left + [True] * (10 - left)
        assert np.array_equal(sample["action"][:left], actions[frame : frame + left])
        assert (sample["action"][left:] == torch.from_numpy(actions[-1].copy())).all()
        assert (sample["episode_index"], sample["frame_index"]) == (4, frame)
        assert sample["index"] == dataset.episodes[4].first_frame + frame
    sample = samples[first]
    assert (sample["episode_index"], sample["frame_index"]) == (1, 0)
    assert np.array_equal(sample["action"], dataset.read_actions(1)[:10])
    with pytest.raises(IndexError):
        samples[len(samples)]


def test_a_chunk_may_be_longer_than_the_episode(sample_root):
    dataset = open_dataset([sample_root])
    length = dataset.episodes[0].length
    sample = ChunkDataset(dataset, [0], 3 * length)[0]
    assert sample["action_is_pad"].sum() == 2 * length
    assert sample["action"].shape == (3 * length, 7)


def test_unusable_choices_are_refused(sample_root):
    dataset = open_dataset([sample_root])
    with pytest.raises(DatasetError, match="episode 6 is not in the dataset, which has 0 to 5"):
        ChunkDataset(dataset, [0, 6], 10)
    with pytest.raises(DatasetError, match="chunk_size is 0"):
        ChunkDataset(dataset, [0], 0)
    with pytest.raises(DatasetError, match="no dataset given"):
        open_dataset([])
    with pytest.raises(DatasetError, match="given twice"):
        open_dataset([sample_root, sample_root / "."])
    with pytest.raises(
        DatasetError, match=r"info\.json: there is no camera top; use observation\.images\.top, obs"
    ):
        open_dataset([sample_root], cameras=["top"])
    with pytest.raises(DatasetError, match="at least one RGB camera"):
        open_dataset([sample_root], cameras=[])


def test_cameras_and_image_size_are_chosen(sample_root):
    full = open_dataset([sample_root])
    dataset = open_dataset([sample_root], cameras=["observation.images.wrist"], image_size=[96, 128])
    sample = ChunkDataset(dataset, [2], 5)[3]
    assert dataset.cameras == ("observation.images.wrist",)
    assert "observation.images.top" not in sample
    assert dataset.image_shapes == {"observation.images.wrist": (96, 128)}
    assert sample["observation.images.wrist"].shape == (3, 96, 128)
    assert sample["observation.images.wrist"].dtype == torch.uint8
    # A checkpoint's dataset is recognised whatever cameras and size it is opened with.
    assert dataset.fingerprint == full.fingerprint


def test_cameras_not_asked_for_need_no_files(tmp_path):
    root = copy_of("h264_deleted_by_lerobot_0_4_4", tmp_path)
    shutil.rmtree(root / "videos" / "observation.images.top")
    open_dataset([root], cameras=["observation.images.wrist_left"])
    with pytest.raises(DatasetError, match=r"observation\.images\.top/chunk-000/file-000\.mp4: missing"):
        open_dataset([root])


def test_depth_is_left_out_and_refused_by_name():
    root = FIXTURES / "depth_by_lerobot_0_6_1"
    dataset = open_dataset([root])
    assert dataset.cameras == ("observation.images.top", "observation.images.wrist_left")
    assert dataset.features["observation.images.depth_top"].is_depth
    with pytest.raises(DatasetError, match=r"info\.json: observation\.images\.depth_top is a depth camera"):
        open_dataset([root], cameras=["observation.images.depth_top"])


def test_both_spellings_of_tasks_and_a_task_that_changes():
    for name in ("h264_deleted_by_lerobot_0_4_4", "hevc_two_sessions_by_lerobot_0_6_1"):
        dataset = open_dataset([FIXTURES / name])
        assert set(dataset.tasks) == {"reach", "grasp 0", "grasp 1"}
        texts = [dataset.tasks[index] for index in dataset.read_task_indices(1)]
        assert texts[0] == "reach"
        assert texts[-1].startswith("grasp")
        assert set(dataset.episodes[1].tasks) == set(texts)


def test_two_folders_are_read_as_one(tmp_path):
    names = ["h264_deleted_by_lerobot_0_4_4", "hevc_two_sessions_by_lerobot_0_6_1"]
    one, two = (open_dataset([FIXTURES / name]) for name in names)
    both = open_dataset([FIXTURES / name for name in names])
    assert [episode.index for episode in both.episodes] == list(range(8))
    assert both.num_frames == one.num_frames + two.num_frames
    samples = ChunkDataset(both, range(8), 6)
    for dataset, offset in ((one, 0), (two, len(one.episodes))):
        alone = ChunkDataset(dataset, range(len(dataset.episodes)), 6)
        for i in range(0, len(alone), 7):
            here, right = samples[i + (one.num_frames if offset else 0)], alone[i]
            assert here["episode_index"] == right["episode_index"] + offset
            assert both.tasks[here["task_index"]] == dataset.tasks[right["task_index"]]
            for key in ("observation.state", "action", "action_is_pad", "timestamp", *dataset.cameras):
                assert torch.equal(here[key], right[key])
    assert [int(samples[i]["index"]) for i in range(0, len(samples), 9)] == list(range(0, len(samples), 9))
    assert len({both.fingerprint, one.fingerprint, two.fingerprint}) == 3
    assert both.fingerprint != open_dataset([FIXTURES / name for name in reversed(names)]).fingerprint


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda info: info.update(fps=10), "fps is 10 against 20"),
        (
            lambda info: info["features"]["action"]["names"].__setitem__(0, "base"),
            r"names of action is \('base', .*\) against \('shoulder_pan'",
        ),
        (
            lambda info: info["features"]["action"].update(shape=[6]),
            r"shape of action is \(6,\) against \(5,\)",
        ),
        (
            lambda info: info["features"].pop("observation.images.top"),
            "the feature observation.images.top is only in the latter",
        ),
    ],
)
def test_folders_that_differ_are_refused_naming_both(tmp_path, change, told):
    root = copy_of("h264_deleted_by_lerobot_0_4_4", tmp_path)
    path = root / "meta" / "info.json"
    info = json.loads(path.read_text())
    change(info)
    path.write_text(json.dumps(info))
    other = FIXTURES / "hevc_two_sessions_by_lerobot_0_6_1"
    with pytest.raises(DatasetError, match=told) as caught:
        open_dataset([other, root])
    assert str(path) in str(caught.value)
    assert str(other / "meta" / "info.json") in str(caught.value)


def test_the_fingerprint_follows_content_not_place(tmp_path):
    name = "h264_deleted_by_lerobot_0_4_4"
    root = copy_of(name, tmp_path)
    (root / "meta" / "info.json").touch()
    assert open_dataset([root]).fingerprint == open_dataset([FIXTURES / name]).fingerprint
    other = open_dataset([FIXTURES / "image_deleted_by_lerobot_0_4_4"])
    assert other.fingerprint != open_dataset([root]).fingerprint


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


@pytest.mark.parametrize("name", ["h264_deleted_by_lerobot_0_4_4", "image_deleted_by_lerobot_0_4_4"])
def test_workers_give_what_the_main_process_gives(name):
    dataset = open_dataset([FIXTURES / name])
    samples = ChunkDataset(dataset, range(len(dataset.episodes)), 6)
    alone = [samples[i] for i in range(len(samples))]
    loader = DataLoader(samples, batch_size=None, shuffle=True, num_workers=2)
    seen = 0
    for sample in loader:
        assert same(sample, alone[sample["index"]])
        seen += 1
    assert seen == len(alone)
    assert same(pickle.loads(pickle.dumps(samples))[17], alone[17])


def jitter(image: torch.Tensor) -> torch.Tensor:
    """An augmentation that shows which random numbers it drew, of the kinds that torchvision uses."""
    gain = torch.empty(1).uniform_(0.5, 1.5) * torch.rand(1)
    return (image.float() * gain).clamp(0, 255).to(torch.uint8)


def test_augmentation_depends_on_seed_epoch_and_index_alone():
    dataset = open_dataset([FIXTURES / "image_deleted_by_lerobot_0_4_4"])
    episodes = range(len(dataset.episodes))
    plain = ChunkDataset(dataset, episodes, 6)
    samples = ChunkDataset(dataset, episodes, 6, jitter, seed=7)
    camera = dataset.cameras[0]

    before = torch.get_rng_state()
    first = samples[20]
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(first[camera], plain[20][camera])
    assert torch.equal(first["action"], plain[20]["action"])
    samples[3], torch.rand(5)
    assert same(samples[20], first)
    assert same(ChunkDataset(dataset, episodes, 6, jitter, seed=7)[20], first)
    assert not torch.equal(ChunkDataset(dataset, episodes, 6, jitter, seed=8)[20][camera], first[camera])

    assert same(samples[0, 20], first)
    assert not torch.equal(samples[1, 20][camera], first[camera])
    keys = [(epoch, i) for epoch in (0, 1) for i in (20, 3, 20)]
    loader = DataLoader(samples, batch_size=None, sampler=keys, num_workers=2)
    for sample, key in zip(loader, keys, strict=True):
        assert same(sample, samples[key])


def test_lerobots_augmentations_keep_uint8_and_are_reproducible(sample_root):
    from lerobot.datasets.transforms import ImageTransforms, ImageTransformsConfig

    dataset = open_dataset([sample_root], image_size=[48, 64])
    transforms = ImageTransforms(ImageTransformsConfig(enable=True))
    samples = ChunkDataset(dataset, [0, 1], 6, transforms, seed=3)
    plain = ChunkDataset(dataset, [0, 1], 6)
    first, again = [samples[i] for i in range(12)], [samples[i] for i in reversed(range(12))]
    changed = 0
    for one, other, unchanged in zip(first, reversed(again), (plain[i] for i in range(12)), strict=True):
        assert same(one, other)
        image = one["observation.images.top"]
        assert image.dtype == torch.uint8
        assert image.shape == (3, 48, 64)
        changed += not torch.equal(image, unchanged["observation.images.top"])
    assert changed > 6


def test_split_is_deterministic_disjoint_and_complete():
    for count in (2, 3, 10, 57):
        for seed in range(5):
            train, held_out = split_episodes(range(count), None, 0.1, seed)
            assert held_out
            assert train
            assert sorted(train + held_out) == list(range(count))
            assert len(held_out) == max(1, round(0.1 * count))
            assert (train, held_out) == split_episodes(reversed(range(count)), None, 0.1, seed)
    assert len({split_episodes(range(57), None, 0.1, seed) for seed in range(5)}) == 5
    # Pinned: another choice would put episodes that a checkpoint was trained on among those it is judged by.
    assert split_episodes(range(20), None, 0.15, 0)[1] == (7, 15, 18)


def test_split_by_list_and_what_it_refuses():
    assert split_episodes([5, 2, 9], [9], 0.1, 0) == ((2, 5), (9,))
    for arguments, told in (
        (([0, 1, 2], [1, 7], 0.1, 0), "episode 7"),
        (([0, 1], [0, 1], 0.1, 0), "no episode for training"),
        (([0, 1, 2], [], 0.1, 0), "empty"),
        (([3], None, 0.1, 0), "at least two"),
        (([0, 1, 2], None, 0.99, 0), "no episode for training"),
    ):
        with pytest.raises(DatasetError, match=told):
            split_episodes(*arguments)
