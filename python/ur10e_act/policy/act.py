"""LeRobot's ACT policy, built from a configuration and a dataset, and its losses without device syncs.

The network is lerobot 0.3.2's ``ACTPolicy``, unchanged. Its ``forward`` asks the device for values on every
step (``.item()``, ``assert not torch.isinf(...).any()``), so training goes through ``ACTLoss``, which
computes the same numbers from the same modules and leaves them on the device.
"""

from __future__ import annotations

import http.client
import json
import pickle
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812
import torchvision
from lerobot.configs.types import FeatureType, NormalizationMode, PolicyFeature
from lerobot.policies.act.configuration_act import ACTConfig
from lerobot.policies.act.modeling_act import ACTPolicy
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ur10e_act.config import Config
from ur10e_act.dataset.features import ACTION, STATE
from ur10e_act.errors import UserError

if TYPE_CHECKING:
    from ur10e_act.dataset.lerobot_dataset import LeRobotV3Dataset

# The statistics that ACTPolicy keeps among its parameters.
STATISTICS_PREFIXES = ("normalize_inputs.", "normalize_targets.", "unnormalize_outputs.")
# What makes the same weights compute something else, without showing in any tensor's shape.
SHAPELESS_SETTINGS = (
    "vision_backbone",
    "replace_final_stride_with_dilation",
    "pre_norm",
    "n_heads",
    "feedforward_activation",
)


def build_policy(
    config: Config,
    dataset: LeRobotV3Dataset,
    stats: Mapping[str, Mapping[str, Tensor]],
    *,
    backbone_weights: bool = True,
) -> ACTPolicy:
    """An untrained ACTPolicy for ``dataset``'s observations and actions, on the CPU, in training mode.

    ``stats`` has, by feature name, float32 ``mean``, ``std``, ``min`` and ``max``: (D,) for state and
    action, (3, 1, 1) for cameras with values in [0, 1]. The initial weights depend on torch's global seed
    alone. The backbone starts from ``model.pretrained_backbone_weights`` unless ``backbone_weights`` is
    false (all weights come from a checkpoint later on) or ``training.init_checkpoint`` is set, which has
    a backbone of its own.

    Raises UserError when the dataset has feature names that LeRobot cannot tell apart, and when the
    backbone weights cannot be downloaded.
    """
    act = _act_config(config, dataset)
    _refuse_colliding_names([*act.input_features, *act.output_features])
    if not backbone_weights or config.training.init_checkpoint:
        act.pretrained_backbone_weights = None
    if act.pretrained_backbone_weights:
        _fetch_backbone_weights(act.vision_backbone, act.pretrained_backbone_weights)
    policy = ACTPolicy(
        act, dataset_stats={key: dict(stats[key]) for key in [*act.input_features, *act.output_features]}
    )
    # Whoever opens a checkpoint builds this network first, and would download weights only to drop them.
    act.pretrained_backbone_weights = None
    return policy


def _act_config(config: Config, dataset: LeRobotV3Dataset) -> ACTConfig:
    model, training = config.model, config.training
    cameras = {
        name: PolicyFeature(FeatureType.VISUAL, (3, *dataset.image_shapes[name])) for name in dataset.cameras
    }
    return ACTConfig(
        input_features={
            STATE: PolicyFeature(FeatureType.STATE, tuple(dataset.features[STATE].shape)),
            **cameras,
        },
        output_features={ACTION: PolicyFeature(FeatureType.ACTION, tuple(dataset.features[ACTION].shape))},
        # The order of LeRobot's own configuration files.
        normalization_mapping={
            "VISUAL": NormalizationMode(model.normalization.visual),
            "STATE": NormalizationMode(model.normalization.state),
            "ACTION": NormalizationMode(model.normalization.action),
        },
        # Opens on any machine; the caller moves the policy to its device.
        device="cpu",
        push_to_hub=False,
        chunk_size=model.chunk_size,
        n_action_steps=model.n_action_steps,
        vision_backbone=model.vision_backbone,
        pretrained_backbone_weights=model.pretrained_backbone_weights,
        replace_final_stride_with_dilation=model.replace_final_stride_with_dilation,
        pre_norm=model.pre_norm,
        dim_model=model.dim_model,
        n_heads=model.n_heads,
        dim_feedforward=model.dim_feedforward,
        feedforward_activation=model.feedforward_activation,
        n_encoder_layers=model.n_encoder_layers,
        n_decoder_layers=model.n_decoder_layers,
        use_vae=model.use_vae,
        latent_dim=model.latent_dim,
        n_vae_encoder_layers=model.n_vae_encoder_layers,
        temporal_ensemble_coeff=model.temporal_ensemble_coeff,
        dropout=model.dropout,
        kl_weight=model.kl_weight,
        optimizer_lr=training.lr,
        optimizer_weight_decay=training.weight_decay,
        optimizer_lr_backbone=training.lr_backbone,
    )


def _buffer_name(feature: str) -> str:
    return "buffer_" + feature.replace(".", "_")


def _refuse_colliding_names(features: list[str]) -> None:
    seen: dict[str, str] = {}
    for feature in features:
        other = seen.setdefault(_buffer_name(feature), feature)
        if other != feature:
            raise UserError(
                f"LeRobot keeps the statistics of {other} and {feature} under one name: rename one of them"
            )


def _fetch_backbone_weights(backbone: str, name: str) -> None:
    """Download torchvision's weights into torch's cache, or say why that fails."""
    known = torchvision.models.get_model_weights(backbone)
    entry = name.removeprefix(f"{known.__name__}.")
    if entry not in known.__members__:
        names = ", ".join(f"{known.__name__}.{member}" for member in known.__members__)
        raise UserError(
            f"model.pretrained_backbone_weights: {name} does not fit {backbone}; use null or one of {names}"
        )
    try:
        known[entry].get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError, http.client.HTTPException) as error:
        cache = Path(torch.hub.get_dir()) / "checkpoints" / known[entry].url.rpartition("/")[2]
        raise UserError(
            f"model.pretrained_backbone_weights: {name} cannot be loaded ({error}); "
            f"place {known[entry].url} at {cache}, or set it to null"
        ) from None


def statistics(policy: ACTPolicy) -> dict[str, dict[str, Tensor]]:
    """What ``policy`` normalizes with, by feature: ``mean`` and ``std``, or ``min`` and ``max``.

    Features of IDENTITY have none. The tensors are the policy's own, on its device.
    """
    found = {}
    for module in (policy.normalize_inputs, policy.normalize_targets):
        for feature in module.features:
            buffer = getattr(module, _buffer_name(feature), None)
            if buffer is not None:
                found[feature] = {name: value.data for name, value in buffer.items()}
    return found


def _normalize(policy: ACTPolicy, batch: Mapping[str, Tensor]) -> dict[str, Any]:
    """The inputs of ``policy.model``, normalized bit for bit as by lerobot 0.3.2's ``Normalize``."""
    inputs: dict[str, Any] = {"action_is_pad": batch["action_is_pad"]}
    for module in (policy.normalize_inputs, policy.normalize_targets):
        for feature in module.features:
            value = batch[feature]
            if value.dtype == torch.uint8:
                value = value.to(torch.float32) / 255
            buffer = getattr(module, _buffer_name(feature), None)
            if buffer is not None and "mean" in buffer:
                value = (value - buffer["mean"]) / (buffer["std"] + 1e-8)
            elif buffer is not None:
                value = (value - buffer["min"]) / (buffer["max"] - buffer["min"] + 1e-8) * 2 - 1
            inputs[feature] = value
    inputs["observation.images"] = [inputs[camera] for camera in policy.config.image_features]
    return inputs


def _unnormalize_action(policy: ACTPolicy, actions: Tensor) -> Tensor:
    buffer = getattr(policy.unnormalize_outputs, _buffer_name(ACTION), None)
    if buffer is None:
        return actions
    if "mean" in buffer:
        return actions * buffer["std"] + buffer["mean"]
    return (actions + 1) / 2 * (buffer["max"] - buffer["min"]) + buffer["min"]


def _run_model(
    policy: ACTPolicy, inputs: dict[str, Any]
) -> tuple[Tensor, tuple[Tensor | None, Tensor | None]]:
    # Without the VAE's encoder, ACT makes its zero latent on the CPU; copying it would wait for the device.
    # The compiler knows no such context, and moves the latent to the device by itself.
    zero_latent = not (policy.config.use_vae and policy.training) and not torch.compiler.is_compiling()
    with torch.device(inputs[STATE].device) if zero_latent else nullcontext():
        return policy.model(inputs)


class ACTLoss(nn.Module):
    """ACTPolicy's training losses, left on the device; what DistributedDataParallel and torch.compile wrap.

    Every parameter that requires a gradient gets one in every step, with and without the VAE, so DDP needs no
    ``find_unused_parameters``; the statistics are parameters that require none.
    """

    def __init__(self, policy: ACTPolicy) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """``loss`` with its gradient, and ``l1_loss`` and, with the VAE, ``kld_loss``: 0-dim float32.

        ``batch``: "observation.state" (B, D) float32; each camera (B, 3, H, W), uint8 or float32 in [0, 1];
        "action" (B, chunk_size, A) float32; "action_is_pad" (B, chunk_size) bool. The policy must be in
        training mode.

        The values are those of ``ACTPolicy.forward`` of lerobot 0.3.2, where padded steps count as 0 in the
        mean over all steps of the chunk.
        """
        config = self.policy.config
        inputs = _normalize(self.policy, batch)
        predicted, (mean, log_variance) = _run_model(self.policy, inputs)
        valid = ~inputs["action_is_pad"].unsqueeze(-1)
        l1_loss = (F.l1_loss(inputs[ACTION], predicted, reduction="none") * valid).mean()
        if not config.use_vae:
            return {"loss": l1_loss, "l1_loss": l1_loss.detach()}
        if mean is None or log_variance is None:
            raise ValueError("the losses of a VAE need the policy in training mode")
        # KL divergence of the latent from the standard normal: summed over dimensions, mean over the batch.
        kld_loss = (-0.5 * (1 + log_variance - mean.pow(2) - log_variance.exp())).sum(-1).mean()
        loss = l1_loss + kld_loss * config.kl_weight
        return {"loss": loss, "l1_loss": l1_loss.detach(), "kld_loss": kld_loss.detach()}


@torch.no_grad()
def chunk_errors(policy: ACTPolicy, batch: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Errors of the chunks predicted for ``batch`` (see ``ACTLoss``), as sums to add over batches and ranks.

    Returns, on the policy's device and float64: the sum of |predicted - true| over all steps that are not
    padding, per joint in the dataset's units (A,); the number of those steps (); the sum of |predicted -
    true| over them and all joints, normalized (). The latent is zero, as when the robot runs; the policy's
    mode is put back afterwards.
    """
    was_training = policy.training
    policy.eval()
    try:
        inputs = _normalize(policy, batch)
        predicted = _run_model(policy, inputs)[0].float()
    finally:
        policy.train(was_training)
    valid = ~inputs["action_is_pad"].unsqueeze(-1)
    units = (_unnormalize_action(policy, predicted) - batch[ACTION]).abs() * valid
    normalized = (predicted - inputs[ACTION]).abs() * valid
    return (
        units.sum(dim=(0, 1), dtype=torch.float64),
        valid.sum(dtype=torch.float64),
        normalized.sum(dtype=torch.float64),
    )


def optimizer_groups(policy: ACTPolicy, lr: float, lr_backbone: float) -> list[dict[str, Any]]:
    """AdamW's parameter groups: everything else at ``lr``, then the image backbone at ``lr_backbone``."""
    trained = [(name, parameter) for name, parameter in policy.named_parameters() if parameter.requires_grad]
    return [
        {
            "params": [parameter for name, parameter in trained if not name.startswith("model.backbone.")],
            "lr": lr,
        },
        {
            "params": [parameter for name, parameter in trained if name.startswith("model.backbone.")],
            "lr": lr_backbone,
        },
    ]


def to_device(batch: Mapping[str, Any], device: torch.device | str) -> dict[str, Any]:
    """``batch`` with tensors and arrays as tensors on ``device``. Copies from pinned memory do not wait."""
    return {
        key: torch.as_tensor(value).to(device, non_blocking=True)
        if isinstance(value, (Tensor, np.ndarray))
        else value
        for key, value in batch.items()
    }


def load_weights(policy: ACTPolicy, checkpoint_dir: Path | str) -> None:
    """Give ``policy`` the weights in a pretrained_model folder of any LeRobot version, to train on.

    The policy keeps its own statistics: they are those of the dataset that it will be trained on. Raises
    UserError for a folder that cannot be read and for weights of another network, naming the differences.
    """
    folder = Path(checkpoint_dir)
    try:
        saved = load_file(folder / "model.safetensors")
        settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, SafetensorError, json.JSONDecodeError) as error:
        raise UserError(f"{folder}: cannot be read as a pretrained_model folder ({error})") from None
    saved = {name: value for name, value in saved.items() if not name.startswith(STATISTICS_PREFIXES)}
    wanted = {
        name: value for name, value in policy.state_dict().items() if not name.startswith(STATISTICS_PREFIXES)
    }

    differences = []
    for key in SHAPELESS_SETTINGS:
        here = getattr(policy.config, key)
        if key in settings and settings[key] != here:
            differences.append(f"{key} is {settings[key]} there, {here} here")
    for name in sorted(wanted.keys() | saved.keys()):
        there, here = (
            str(tuple(side[name].shape)) if name in side else "missing" for side in (saved, wanted)
        )
        if there != here:
            differences.append(f"{name} is {there} there, {here} here")
    if differences:
        more = f"; and {len(differences) - 4} more" if len(differences) > 4 else ""
        raise UserError(
            f"{folder}: its weights do not fit this model and dataset: {'; '.join(differences[:4])}{more}. "
            "Take the section model of the checkpoint's train_config.yaml, and a dataset with the same joints"
        )
    policy.load_state_dict(saved, strict=False)
