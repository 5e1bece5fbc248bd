"""policy.py against stock ACTPolicy of lerobot 0.3.2, on the sample dataset."""

import dataclasses
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torchvision
from policy_examples import (
    CHUNK_SIZE,
    as_lerobot_expects,
    padded_batch,
    rename_camera,
    small_dataset,
    tiny_config,
    tiny_policy,
)
from torch.nn.parallel import DistributedDataParallel
from torch.utils._python_dispatch import TorchDispatchMode

from ur10e_act.config import Config, TrainingConfig
from ur10e_act.dataset.lerobot_dataset import LeRobotV3Dataset
from ur10e_act.errors import UserError
from ur10e_act.policy.act import (
    ACTLoss,
    chunk_errors,
    load_weights,
    optimizer_groups,
    statistics,
    to_device,
)

NORMALIZATIONS = [
    ("MEAN_STD", "MEAN_STD", "MEAN_STD"),
    ("MIN_MAX", "MIN_MAX", "MIN_MAX"),
    ("IDENTITY", "MIN_MAX", "MEAN_STD"),
    ("MEAN_STD", "IDENTITY", "IDENTITY"),
]


@pytest.fixture(scope="module")
def dataset(sample_root: Path) -> LeRobotV3Dataset:
    return small_dataset(sample_root)


@pytest.fixture(scope="module")
def batch(dataset: LeRobotV3Dataset) -> dict[str, torch.Tensor]:
    return padded_batch(dataset)


@pytest.mark.parametrize("pre_norm", [False, True])
@pytest.mark.parametrize("use_vae", [True, False])
@pytest.mark.parametrize("normalization", NORMALIZATIONS, ids="/".join)
def test_losses_and_gradients_are_those_of_act_policy(dataset, batch, normalization, use_vae, pre_norm):
    policy = tiny_policy(dataset, tiny_config(*normalization, use_vae=use_vae, pre_norm=pre_norm))
    trained = {name: value for name, value in policy.named_parameters() if value.requires_grad}
    assert batch["action_is_pad"].sum() == 3 + 5

    torch.manual_seed(7)
    stock_loss, stock = policy.forward(as_lerobot_expects(batch))
    stock_loss.backward()
    stock_gradients = {name: value.grad.clone() for name, value in trained.items()}
    policy.zero_grad()
    torch.manual_seed(7)
    losses = ACTLoss(policy)(batch)
    losses["loss"].backward()

    assert torch.equal(losses["loss"], stock_loss)
    assert {name: value.item() for name, value in losses.items() if name != "loss"} == stock
    assert ("kld_loss" in losses) == use_vae
    for name, value in trained.items():
        assert torch.equal(value.grad, stock_gradients[name]), name


class OnlyMeta(TorchDispatchMode):
    """Collects the operations that take a tensor from the host."""

    def __init__(self):
        super().__init__()
        self.from_host = []

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        flat = torch.utils._pytree.tree_leaves((args, kwargs or {}))
        if any(isinstance(value, torch.Tensor) and value.device.type == "cpu" for value in flat):
            self.from_host.append(str(operation))
        return operation(*args, **(kwargs or {}))


@pytest.mark.parametrize("use_vae", [True, False])
def test_losses_never_wait_for_the_device(dataset, batch, use_vae):
    """The meta device has no values: whatever asks for one raises, and copies from the host are seen."""
    policy = tiny_policy(dataset, tiny_config(use_vae=use_vae)).to("meta")
    on_device = to_device(batch, "meta")
    with OnlyMeta() as mode:
        losses = ACTLoss(policy)(on_device)
        losses["loss"].backward()
        chunk_errors(policy, on_device)
    assert mode.from_host == []

    with pytest.raises(RuntimeError, match="meta"):
        policy.forward(as_lerobot_expects(on_device))
    inputs = {"observation.state": on_device["observation.state"]}
    inputs["observation.images"] = [on_device[camera].float() for camera in dataset.cameras]
    with OnlyMeta() as mode:
        policy.eval().model(inputs)
    assert mode.from_host, "stock ACT copies its zero latent from the host"


@pytest.mark.slow
@pytest.mark.parametrize("use_vae", [True, False])
def test_losses_compile_in_one_graph(dataset, batch, use_vae):
    loss_of = ACTLoss(tiny_policy(dataset, tiny_config(use_vae=use_vae)))
    compiled = torch.compile(loss_of, fullgraph=True, backend="eager")
    torch.manual_seed(7)
    expected = loss_of(batch)
    torch.manual_seed(7)
    losses = compiled(batch)
    assert torch.equal(losses["loss"], expected["loss"])
    losses["loss"].backward()
    assert all(value.grad is not None for value in loss_of.parameters() if value.requires_grad)


@pytest.mark.parametrize("use_vae", [True, False])
def test_every_parameter_takes_part_in_every_step_under_ddp(dataset, batch, tmp_path, use_vae):
    """Without find_unused_parameters, DDP's second step raises when the first left a parameter out."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/rendezvous", rank=0, world_size=1)
    try:
        loss_of = DistributedDataParallel(ACTLoss(tiny_policy(dataset, tiny_config(use_vae=use_vae))))
        for _ in range(2):
            loss_of(batch)["loss"].backward()
    finally:
        dist.destroy_process_group()


@pytest.mark.parametrize("normalization", NORMALIZATIONS, ids="/".join)
def test_chunk_errors_are_those_of_the_robots_predictions(dataset, batch, normalization):
    policy = tiny_policy(dataset, tiny_config(*normalization))
    assert policy.training
    random_state = torch.get_rng_state()
    per_joint, steps, normalized = chunk_errors(policy, batch)
    assert policy.training
    assert all(module.training for module in policy.modules())
    assert torch.equal(torch.get_rng_state(), random_state)

    valid = ~batch["action_is_pad"]
    predicted = policy.predict_action_chunk(as_lerobot_expects(batch))
    assert not policy.training
    assert torch.equal(per_joint, (predicted - batch["action"]).abs()[valid].sum(0, dtype=torch.float64))
    assert steps == valid.sum() == 4 * CHUNK_SIZE - 3 - 5
    stats = statistics(policy).get("action", {})
    scale = {"MEAN_STD": lambda: stats["std"], "MIN_MAX": lambda: (stats["max"] - stats["min"]) / 2}
    expected = per_joint / scale.get(normalization[2], lambda: 1)()
    torch.testing.assert_close(normalized, expected.sum(), rtol=1e-5, atol=0)

    chunk_errors(policy, batch)
    assert not policy.training


def test_padding_does_not_count_in_chunk_errors(dataset, batch):
    policy = tiny_policy(dataset, tiny_config())
    other = dict(batch, action=batch["action"].clone())
    other["action"][batch["action_is_pad"]] += 100
    for mine, theirs in zip(chunk_errors(policy, batch), chunk_errors(policy, other), strict=True):
        assert torch.equal(mine, theirs)


def test_initial_weights_are_a_function_of_the_seed(dataset):
    states = [tiny_policy(dataset, tiny_config(), seed).state_dict() for seed in (3, 3, 4)]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    assert not torch.equal(states[0]["model.action_head.weight"], states[2]["model.action_head.weight"])


def test_policy_takes_what_the_dataset_gives(dataset):
    policy = tiny_policy(dataset, tiny_config())
    assert {name: tuple(feature.shape) for name, feature in policy.config.input_features.items()} == {
        "observation.state": (7,),
        "observation.images.top": (3, 48, 64),
        "observation.images.wrist": (3, 48, 64),
    }
    assert tuple(policy.config.output_features["action"].shape) == (7,)
    assert {value.device.type for value in policy.parameters()} == {"cpu"}
    assert policy.config.device == "cpu"
    assert policy.training


@pytest.fixture
def torch_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no way out to the network."""
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    return tmp_path


def test_backbone_starts_from_the_weights_asked_for(dataset, torch_home):
    torch.manual_seed(99)
    saved = torchvision.models.resnet18().state_dict()
    cached = torch_home / "hub" / "checkpoints" / "resnet18-f37072fd.pth"
    cached.parent.mkdir(parents=True)
    torch.save(saved, cached)
    config = tiny_config(pretrained_backbone_weights="ResNet18_Weights.IMAGENET1K_V1")
    policy = tiny_policy(dataset, config)
    assert torch.equal(policy.model.backbone.conv1.weight, saved["conv1.weight"])
    assert policy.config.pretrained_backbone_weights is None, (
        "or every load of the checkpoint would download them"
    )

    cached.write_bytes(cached.read_bytes()[:1000])
    with pytest.raises(UserError, match="resnet18-f37072fd"):
        tiny_policy(dataset, config)


def test_missing_backbone_weights_are_one_clear_error(dataset, torch_home):
    with pytest.raises(UserError) as error:
        tiny_policy(dataset, tiny_config(pretrained_backbone_weights="ResNet18_Weights.IMAGENET1K_V1"))
    assert "pretrained_backbone_weights" in str(error.value)
    assert str(torch_home / "hub" / "checkpoints" / "resnet18-f37072fd.pth") in str(error.value)
    with pytest.raises(UserError, match="does not fit resnet34; use null or one of ResNet34_Weights"):
        tiny_policy(
            dataset, tiny_config(vision_backbone="resnet34", pretrained_backbone_weights="ResNet18_Weights.X")
        )


def test_fine_tuning_needs_no_backbone_weights(dataset, torch_home):
    config = dataclasses.replace(
        tiny_config(pretrained_backbone_weights="ResNet18_Weights.IMAGENET1K_V1"),
        training=TrainingConfig(init_checkpoint="somewhere"),
    )
    tiny_policy(dataset, config)


def test_names_that_lerobot_confuses_are_refused(sample_root, tmp_path):
    root = rename_camera(sample_root, tmp_path / "data", "observation.images.wrist", "observation.images_top")
    with pytest.raises(UserError, match=r"observation\.images\.top and observation\.images_top"):
        tiny_policy(small_dataset(root), tiny_config())


def test_optimizer_groups_split_off_the_backbone(dataset):
    policy = tiny_policy(dataset, tiny_config())
    rest, backbone = optimizer_groups(policy, lr=1e-4, lr_backbone=1e-5)
    assert (rest["lr"], backbone["lr"]) == (1e-4, 1e-5)
    trained = {id(value) for value in policy.parameters() if value.requires_grad}
    assert {id(value) for value in backbone["params"]} == {
        id(value) for value in policy.model.backbone.parameters()
    }
    assert {id(value) for value in rest["params"]} == trained - {id(value) for value in backbone["params"]}

    optimizer = torch.optim.AdamW([rest, backbone], lr=1.0, weight_decay=1e-4)
    before = statistics(policy)["action"]["mean"].clone()
    ACTLoss(policy)(padded_batch(dataset))["loss"].backward()
    optimizer.step()
    assert torch.equal(statistics(policy)["action"]["mean"], before)


def saved(policy, folder: Path) -> Path:
    policy.save_pretrained(folder)
    return folder


def test_fine_tuning_keeps_the_new_datasets_statistics(dataset, tmp_path):
    config: Config = tiny_config()
    source = tiny_policy(dataset, config, seed=1)
    statistics(source)["action"]["mean"].fill_(123.0)
    policy = tiny_policy(dataset, config, seed=2)
    own = statistics(policy)["action"]["mean"].clone()
    load_weights(policy, saved(source, tmp_path / "model"))
    for name, value in source.model.state_dict().items():
        assert torch.equal(policy.model.state_dict()[name], value), name
    assert torch.equal(statistics(policy)["action"]["mean"], own)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        (
            {"chunk_size": 5, "n_action_steps": 5},
            r"model\.decoder_pos_embed\.weight is \(5, 16\) there, \(6, 16\) here",
        ),
        ({"n_heads": 4}, "n_heads is 4 there, 2 here"),
        ({"use_vae": False}, r"vae_encoder.* is missing there"),
        ({"feedforward_activation": "gelu"}, "feedforward_activation is gelu there, relu here"),
    ],
)
def test_weights_of_another_network_are_refused(dataset, tmp_path, changes, named):
    folder = saved(tiny_policy(dataset, tiny_config(**changes)), tmp_path / "model")
    with pytest.raises(UserError, match=named) as error:
        load_weights(tiny_policy(dataset, tiny_config()), folder)
    assert len(str(error.value)) < 1000


def test_weights_that_cannot_be_read_are_refused(dataset, tmp_path):
    folder = saved(tiny_policy(dataset, tiny_config()), tmp_path / "model")
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match="cannot be read as a pretrained_model folder"):
        load_weights(tiny_policy(dataset, tiny_config()), folder)
    path.unlink()
    with pytest.raises(UserError, match=r"model\.safetensors"):
        load_weights(tiny_policy(dataset, tiny_config()), folder)


def test_to_device_moves_tensors_only():
    moved = to_device({"action": torch.zeros(2), "task": ["reach"]}, "meta")
    assert moved["action"].device.type == "meta"
    assert moved["task"] == ["reach"]
