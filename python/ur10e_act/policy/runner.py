"""Runs a trained ACT policy: one observation at a time as a robot does, or batched over recorded frames."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lerobot.configs.policies import PreTrainedConfig
from lerobot.policies.act.configuration_act import ACTConfig
from lerobot.policies.act.modeling_act import ACTPolicy

from ur10e_act.dataset.features import STATE
from ur10e_act.dataset.resize import resize_frames
from ur10e_act.errors import UserError, one_line
from ur10e_act.policy.checkpoint import find_checkpoint

MESSAGE_LIMIT = 240  # characters: torch lists every tensor that does not fit


def pick_device(name: str) -> torch.device:
    """``auto`` is CUDA where there is one, else the CPU. UserError for a device that is not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"device {name!r}: not a device; use auto, cpu or cuda") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"device {name!r}: this machine has no usable CUDA device; use --device cpu")
    return device


def load_policy(pretrained_dir: Path, n_action_steps: int | None, ensemble_coeff: float | None) -> ACTPolicy:
    """Stock ``ACTPolicy.from_pretrained`` on the CPU, offline, with the way of running set in its config."""
    settings, weights = pretrained_dir / "config.json", pretrained_dir / "model.safetensors"
    try:
        config = PreTrainedConfig.from_pretrained(pretrained_dir, cli_overrides=["--device=cpu"])
    # draccus raises many types for a config.json of another version; all mean the same to the user.
    except (Exception, SystemExit) as error:
        raise UserError(
            f"{settings}: lerobot 0.3.2 cannot read it ({one_line(error, MESSAGE_LIMIT)})"
        ) from None
    if not isinstance(config, ACTConfig):
        raise UserError(f"{settings}: policy type {config.type!r}; only act can be run here")
    if (
        config.robot_state_feature is None
        or config.env_state_feature is not None
        or not config.image_features
    ):
        raise UserError(f"{settings}: the policy must read {STATE} and cameras, nothing else")
    # All weights are in model.safetensors: building the network must not download the backbone's first.
    config.pretrained_backbone_weights = None
    if ensemble_coeff is not None:
        if n_action_steps not in (None, 1):
            raise UserError(
                "n_action_steps: must be 1 with temporal ensembling, which asks the policy at every step"
            )
        config.n_action_steps, config.temporal_ensemble_coeff = 1, ensemble_coeff
    elif n_action_steps is not None:
        if not 1 <= n_action_steps <= config.chunk_size:
            raise UserError(
                f"n_action_steps: {n_action_steps} is not in 1..{config.chunk_size}, the policy's chunk"
            )
        config.n_action_steps, config.temporal_ensemble_coeff = n_action_steps, None
    try:
        # from_pretrained prints a line to stdout, which belongs to the caller's figures.
        with contextlib.redirect_stdout(io.StringIO()):
            return ACTPolicy.from_pretrained(pretrained_dir, config=config, strict=True)
    except Exception as error:
        raise UserError(f"{weights}: cannot be loaded ({one_line(error, MESSAGE_LIMIT)})") from None


class PolicyRunner:
    """A policy with its normalization, from numpy observations to numpy actions in the dataset's units.

    ``step`` runs as on the robot: a queue of ``n_action_steps`` actions per call of the model, or, with a
    ``temporal_ensemble_coeff``, LeRobot's ACTTemporalEnsembler over one call per step.
    """

    def __init__(self, policy: ACTPolicy, device: torch.device) -> None:
        self.policy = policy.to(device).eval()
        self.device = device
        config = policy.config
        self.state_dim: int = config.robot_state_feature.shape[0]
        self.action_dim: int = config.action_feature.shape[0]
        self.chunk_size: int = config.chunk_size
        self.n_action_steps: int = config.n_action_steps
        self.temporal_ensemble_coeff: float | None = config.temporal_ensemble_coeff
        self.image_shapes: dict[str, tuple[int, int]] = {
            camera: tuple(feature.shape[1:]) for camera, feature in config.image_features.items()
        }
        self.reset()

    @classmethod
    def from_pretrained(
        cls,
        directory: str | Path,
        device: str = "auto",
        n_action_steps: int | None = None,
        temporal_ensemble_coeff: float | None = None,
    ) -> PolicyRunner:
        """Load a checkpoint (any folder that ``checkpoint.find_checkpoint`` knows).

        ``n_action_steps`` chooses the queue, ``temporal_ensemble_coeff`` the ensemble; with neither, the
        policy runs as its config.json says. Raises UserError for what cannot be run.
        """
        target = pick_device(device)
        policy = load_policy(find_checkpoint(directory), n_action_steps, temporal_ensemble_coeff)
        return cls(policy, target)

    @property
    def cameras(self) -> tuple[str, ...]:
        """Full feature names of the cameras, in the policy's order."""
        return tuple(self.image_shapes)

    def reset(self) -> None:
        """Forget the queued actions; call it at the start of every episode."""
        self.policy.reset()
        self._queued = 0

    def step(self, observation: Mapping[str, Any]) -> np.ndarray:
        """The next action, float32 (A,), in the dataset's units.

        ``observation``: ``observation.state`` (D,) float and, for every camera by its full name, an image
        (H, W, 3) uint8 RGB of any size (resized as the dataset reader does). Raises UserError for missing or
        misshapen entries.
        """
        arrays = {STATE: self._state(observation, (self.state_dim,))[None]}
        for camera in self.cameras:
            arrays[camera] = self._images(observation, camera, dims=3)[None]
        if self._queued:
            # Queued actions need no observation; skip the copies to the device.
            batch: dict[str, torch.Tensor] = {}
            self._queued -= 1
        else:
            batch = self._to_device(arrays)
            self._queued = 0 if self.temporal_ensemble_coeff is not None else self.n_action_steps - 1
        with torch.inference_mode(), full_precision(self.device):
            return self.policy.select_action(batch)[0].cpu().numpy()

    def predict_chunks(self, batch: Mapping[str, Any]) -> np.ndarray:
        """Action chunks, float32 (B, chunk_size, A), in the dataset's units; does not touch the queue.

        ``batch``: as for ``step`` with a leading dimension: states (B, D), images (B, H, W, 3).
        """
        states = self._state(batch, (None, self.state_dim))
        arrays = {STATE: states}
        for camera in self.cameras:
            arrays[camera] = self._images(batch, camera, dims=4)
            if len(arrays[camera]) != len(states):
                raise UserError(
                    f"observation: {len(states)} states but {len(arrays[camera])} images of {camera}"
                )
        with torch.inference_mode(), full_precision(self.device):
            return self.policy.predict_action_chunk(self._to_device(arrays)).cpu().numpy()

    def _state(self, observation: Mapping[str, Any], shape: tuple[int | None, ...]) -> np.ndarray:
        if STATE not in observation:
            raise UserError(f"observation: {STATE} is missing; it has {', '.join(observation) or 'nothing'}")
        state = np.asarray(observation[STATE])
        if state.dtype.kind not in "fiu" or state.ndim != len(shape) or state.shape[-1] != shape[-1]:
            wanted = (
                "(" + ", ".join("B" if n is None else str(n) for n in shape) + ("," * (len(shape) == 1)) + ")"
            )
            raise UserError(
                f"observation: {STATE} must be numbers of shape {wanted}, got {state.dtype} {state.shape}"
            )
        if not np.isfinite(state).all():
            raise UserError(f"observation: {STATE} holds NaN or infinity")
        return np.require(state, np.float32, ["C", "W"])

    def _images(self, observation: Mapping[str, Any], camera: str, dims: int) -> np.ndarray:
        if camera not in observation:
            raise UserError(
                f"observation: camera {camera} is missing; it has {', '.join(observation) or 'nothing'}"
            )
        images = np.asarray(observation[camera])
        if images.dtype != np.uint8 or images.ndim != dims or images.shape[-1] != 3 or not images.size:
            wanted = "(H, W, 3)" if dims == 3 else "(B, H, W, 3)"
            raise UserError(
                f"observation: {camera} must be uint8 {wanted} RGB, got {images.dtype} {images.shape}"
            )
        return images

    def _to_device(self, arrays: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
        """Batched arrays as the tensors ACT reads: states float32, images (B, 3, H, W) float32 in [0, 1]."""
        batch = {STATE: torch.from_numpy(arrays[STATE]).to(self.device)}
        for camera, size in self.image_shapes.items():
            images = arrays[camera]
            if images.shape[1:3] != size:
                images = resize_frames(images, size)
            # uint8 to the device: a quarter of the bytes.
            pixels = torch.from_numpy(np.require(images, requirements=["C", "W"])).to(self.device)
            batch[camera] = pixels.permute(0, 3, 1, 2).contiguous().float() / 255
        return batch


@contextlib.contextmanager
def full_precision(device: torch.device) -> Iterator[None]:
    """float32 convolutions without TF32, whose rounding (1e-3) differs with the batch size."""
    if device.type != "cuda":
        yield
        return
    with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=False, allow_tf32=False):
        yield
