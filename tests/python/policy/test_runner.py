"""PolicyRunner against stock lerobot: queue, ensemble, batches, images of any size, and wrong input."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from lerobot.configs.policies import PreTrainedConfig
from lerobot.policies.act.modeling_act import ACTPolicy
from tiny_checkpoint import CHUNK_SIZE, IMAGE_SIZE, write_tiny_checkpoint

from ur10e_act.dataset.lerobot_dataset import open_dataset
from ur10e_act.errors import UserError
from ur10e_act.policy.runner import STATE, PolicyRunner

FRAMES = range(20)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, sample_root) -> Path:
    return write_tiny_checkpoint(tmp_path_factory.mktemp("runner") / "train", sample_root)


@pytest.fixture(scope="module")
def pretrained(trained) -> Path:
    return trained / "checkpoints" / "last" / "pretrained_model"


@pytest.fixture(scope="module")
def frames(sample_root) -> dict[str, np.ndarray]:
    """Some frames of an episode, batched, at the policy's image size."""
    dataset = open_dataset([sample_root], image_size=IMAGE_SIZE)
    batch = {camera: dataset.frames.read(camera, 4, FRAMES) for camera in dataset.cameras}
    return {STATE: dataset.read_states(4)[: len(FRAMES)], **batch}


def at(frames: dict[str, np.ndarray], i: int) -> dict[str, np.ndarray]:
    return {name: values[i] for name, values in frames.items()}


def stock_batch(frames: dict[str, np.ndarray], i: int) -> dict[str, torch.Tensor]:
    """One frame as a LeRobot user would feed it."""
    batch = {}
    for name, values in frames.items():
        tensor = torch.tensor(values[i])
        batch[name] = (tensor if name == STATE else tensor.permute(2, 0, 1).contiguous() / 255)[None]
    return batch


def stock_policy(pretrained: Path, **settings) -> ACTPolicy:
    config = PreTrainedConfig.from_pretrained(pretrained)
    for name, value in settings.items():
        setattr(config, name, value)
    return ACTPolicy.from_pretrained(pretrained, config=config)


def test_queue_equals_stock_select_action_bit_for_bit(trained, pretrained, frames):
    runner, stock = PolicyRunner.from_pretrained(trained, "cpu"), stock_policy(pretrained)
    for i in FRAMES:
        np.testing.assert_array_equal(
            runner.step(at(frames, i)), stock.select_action(stock_batch(frames, i))[0].numpy()
        )


def test_queue_plays_chunks_to_the_requested_length(trained, frames):
    runner = PolicyRunner.from_pretrained(trained, "cpu", n_action_steps=3)
    chunks = runner.predict_chunks(frames)
    for i in range(10):
        asked = i - i % 3
        np.testing.assert_allclose(runner.step(at(frames, i)), chunks[asked, i - asked], atol=1e-5)


def test_batched_first_actions_agree_with_stepping(trained, frames):
    runner = PolicyRunner.from_pretrained(trained, "cpu", n_action_steps=1)
    chunks = runner.predict_chunks(frames)
    assert chunks.shape == (len(FRAMES), CHUNK_SIZE, 7)
    assert chunks.dtype == np.float32
    stepped = np.stack([runner.step(at(frames, i)) for i in FRAMES])
    assert stepped.std(axis=0).max() > 1e-4  # Frames tell actions apart, so agreement means something.
    np.testing.assert_allclose(chunks[:, 0], stepped, rtol=0, atol=1e-5)


def test_ensemble_equals_stock_and_the_paper(trained, pretrained, frames):
    coefficient = 0.1
    runner = PolicyRunner.from_pretrained(trained, "cpu", temporal_ensemble_coeff=coefficient)
    stock = stock_policy(pretrained, temporal_ensemble_coeff=coefficient, n_action_steps=1)
    chunks = runner.predict_chunks(frames)
    for i in FRAMES:
        action = runner.step(at(frames, i))
        np.testing.assert_array_equal(action, stock.select_action(stock_batch(frames, i))[0].numpy())
        # Algorithm 2 of the ACT paper: all predictions for now, the oldest first, weighted exp(-m i).
        oldest = max(0, i - CHUNK_SIZE + 1)
        predictions = np.stack([chunks[j, i - j] for j in range(oldest, i + 1)])
        weights = np.exp(-coefficient * np.arange(len(predictions)))
        np.testing.assert_allclose(action, (predictions * weights[:, None]).sum(0) / weights.sum(), atol=1e-5)


@pytest.mark.parametrize("settings", [{"n_action_steps": 4}, {"temporal_ensemble_coeff": 0.01}])
def test_reset_starts_anew(trained, frames, settings):
    runner = PolicyRunner.from_pretrained(trained, "cpu", **settings)
    first = runner.step(at(frames, 0))
    second = runner.step(at(frames, 19))
    runner.reset()
    np.testing.assert_array_equal(runner.step(at(frames, 0)), first)
    runner.reset()
    # Without the reset, frame 19 would have been answered from the queue or blended.
    assert not np.allclose(runner.step(at(frames, 19)), second, atol=1e-6)


def test_images_are_resized_as_in_training(trained, sample_root, frames):
    recorded = open_dataset([sample_root])
    runner = PolicyRunner.from_pretrained(trained, "cpu", n_action_steps=1)
    observation = {STATE: frames[STATE][7]}
    for camera in runner.cameras:
        observation[camera] = recorded.frames.read(camera, 4, [7])[0]
        assert observation[camera].shape == (240, 320, 3)
    np.testing.assert_array_equal(runner.step(observation), runner.step(at(frames, 7)))


def test_observations_may_be_read_only_and_of_other_number_types(trained, frames):
    runner = PolicyRunner.from_pretrained(trained, "cpu", n_action_steps=1)
    expected = runner.step(at(frames, 0))
    observation = {name: values.copy() for name, values in at(frames, 0).items()}
    for values in observation.values():
        values.flags.writeable = False
    observation[STATE] = observation[STATE].astype(np.float64).tolist()
    np.testing.assert_array_equal(runner.step(observation), expected)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (STATE, None, "observation.state is missing"),
        (STATE, np.zeros(6, dtype=np.float32), r"must be numbers of shape \(7,\), got float32 \(6,\)"),
        (STATE, np.full(7, np.nan, dtype=np.float32), "holds NaN"),
        ("observation.images.wrist", None, "camera observation.images.wrist is missing; it has .*images.top"),
        ("observation.images.wrist", np.zeros((48, 64, 3)), r"must be uint8 \(H, W, 3\) RGB, got float64"),
        ("observation.images.wrist", np.zeros((3, 48, 64), np.uint8), r"got uint8 \(3, 48, 64\)"),
        ("observation.images.wrist", np.zeros((48, 64), np.uint8), r"got uint8 \(48, 64\)"),
        ("observation.images.wrist", np.zeros((0, 64, 3), np.uint8), r"got uint8 \(0, 64, 3\)"),
    ],
)
def test_wrong_observations_are_named(trained, frames, name, value, message):
    runner = PolicyRunner.from_pretrained(trained, "cpu")
    observation = at(frames, 0)
    observation.pop(name)
    if value is not None:
        observation[name] = value
    with pytest.raises(UserError, match=message):
        runner.step(observation)
    # The refused observation must not have eaten an action.
    chunk = runner.predict_chunks({key: values[:1] for key, values in frames.items()})
    np.testing.assert_allclose(runner.step(at(frames, 0)), chunk[0, 0], atol=1e-5)


def test_batches_of_unequal_length_are_refused(trained, frames):
    runner = PolicyRunner.from_pretrained(trained, "cpu")
    with pytest.raises(UserError, match="3 states but 20 images of observation.images.top"):
        runner.predict_chunks({**frames, STATE: frames[STATE][:3]})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_action_steps": CHUNK_SIZE + 1}, r"9 is not in 1..8"),
        ({"n_action_steps": 2, "temporal_ensemble_coeff": 0.01}, "must be 1 with temporal ensembling"),
        ({"device": "warp"}, "not a device"),
    ],
)
def test_impossible_settings_are_refused(trained, settings, message):
    with pytest.raises(UserError, match=message):
        PolicyRunner.from_pretrained(trained, **{"device": "cpu", **settings})


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_missing_cuda_is_said(trained):
    with pytest.raises(UserError, match="no usable CUDA device; use --device cpu"):
        PolicyRunner.from_pretrained(trained, "cuda")


def change_config(pretrained: Path, folder: Path, **changes: object) -> Path:
    shutil.copytree(pretrained, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changes}))
    return folder


def test_ensemble_checkpoint_can_be_run_as_a_queue(pretrained, tmp_path, frames):
    folder = change_config(pretrained, tmp_path / "c", temporal_ensemble_coeff=0.01, n_action_steps=1)
    assert PolicyRunner.from_pretrained(folder, "cpu").temporal_ensemble_coeff == 0.01
    runner = PolicyRunner.from_pretrained(folder, "cpu", n_action_steps=2)
    chunks = runner.predict_chunks(frames)
    runner.step(at(frames, 0))
    np.testing.assert_allclose(runner.step(at(frames, 1)), chunks[0, 1], atol=1e-5)


def test_loading_fetches_no_backbone_and_prints_nothing(pretrained, tmp_path, frames, monkeypatch, capsys):
    # LeRobot's own checkpoints name ImageNet weights, which torchvision would download to TORCH_HOME.
    folder = change_config(
        pretrained, tmp_path / "c", pretrained_backbone_weights="ResNet18_Weights.IMAGENET1K_V1"
    )
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    runner = PolicyRunner.from_pretrained(folder, "cpu")
    assert not list((tmp_path / "torch").rglob("*"))
    assert capsys.readouterr().out == ""
    same = PolicyRunner.from_pretrained(pretrained, "cpu")
    np.testing.assert_array_equal(runner.step(at(frames, 0)), same.step(at(frames, 0)))


def test_unreadable_checkpoints_are_named(pretrained, tmp_path):
    unknown = change_config(pretrained, tmp_path / "newer", use_peft=False)
    with pytest.raises(UserError, match=r"newer/config.json: lerobot 0.3.2 cannot read it"):
        PolicyRunner.from_pretrained(unknown, "cpu")
    wider = change_config(pretrained, tmp_path / "wider", dim_model=64)
    with pytest.raises(UserError, match=r"wider/model.safetensors: cannot be loaded .*size mismatch"):
        PolicyRunner.from_pretrained(wider, "cpu")
    cut = change_config(pretrained, tmp_path / "cut")
    weights = (cut / "model.safetensors").read_bytes()
    (cut / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(UserError, match=r"cut/model.safetensors: cannot be loaded"):
        PolicyRunner.from_pretrained(cut, "cpu")
