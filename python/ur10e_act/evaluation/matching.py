"""Whether a checkpoint fits a dataset, and which of its episodes and frames are evaluated."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import yaml

from ur10e_act.dataset.lerobot_dataset import LeRobotV3Dataset, open_dataset
from ur10e_act.errors import UserError
from ur10e_act.policy.runner import PolicyRunner


def describe_order(ours: Sequence[str], theirs: Sequence[str]) -> str | None:
    """How two lists of joint names differ, in words; None when they do not."""
    ours, theirs = list(ours), list(theirs)
    if ours == theirs:
        return None
    if sorted(ours) == sorted(theirs):
        order = f"checkpoint: {', '.join(ours)}; dataset: {', '.join(theirs)}"
        return f"the same joints in another order ({order})"
    lacking = [name for name in ours if name not in theirs]
    added = [name for name in theirs if name not in ours]
    parts = [f"the checkpoint has {len(ours)}, the dataset {len(theirs)}"] if len(ours) != len(theirs) else []
    if lacking:
        parts.append(f"not in the dataset: {', '.join(lacking)}")
    if added:
        parts.append(f"not in the checkpoint: {', '.join(added)}")
    return "; ".join(parts)


def differences(
    runner: PolicyRunner, info: dict[str, Any] | None, resized: bool, dataset: LeRobotV3Dataset
) -> list[str]:
    """Why the checkpoint cannot be run on a dataset, read as recorded; empty when it can.

    ``info`` is the checkpoint's dataset_info.json (None for checkpoints not trained here: only shapes can be
    compared). ``resized``: the policy was trained on resized images, so recorded sizes may differ.
    """
    found = []
    for what, ours, dim, theirs in (
        ("state joints", "state_names", runner.state_dim, dataset.state_names),
        ("action joints", "action_names", runner.action_dim, dataset.action_names),
    ):
        if info is not None and (words := describe_order(info[ours], theirs)):
            found.append(f"{what}: {words}")
        elif dim != len(theirs):
            found.append(f"{what}: the checkpoint has {dim}, the dataset {len(theirs)}")
    for camera, (height, width) in runner.image_shapes.items():
        if camera not in dataset.cameras:
            found.append(f"camera {camera}: the dataset has {', '.join(dataset.cameras) or 'none'}")
        elif not resized and tuple(dataset.image_shapes[camera]) != (height, width):
            size = "x".join(map(str, dataset.image_shapes[camera]))
            found.append(f"camera {camera}: the checkpoint reads {height}x{width} px, the dataset has {size}")
    if info is not None and info["fps"] != dataset.fps:
        found.append(f"fps: the checkpoint has {info['fps']}, the dataset {dataset.fps}")
    return found


def open_matching_dataset(
    runner: PolicyRunner, pretrained: Path, info: dict[str, Any] | None, roots: Sequence[str]
) -> tuple[LeRobotV3Dataset, LeRobotV3Dataset]:
    """The dataset as recorded and as the policy was trained on it (its cameras, its image size).

    Raises UserError, in one line with every difference, when the checkpoint does not fit.
    """
    train_config = read_train_config(pretrained)
    image_size = train_config["data"].get("image_size") if train_config else None
    recorded = open_dataset(roots)
    found = differences(runner, info, image_size is not None, recorded)
    if found:
        raise UserError(f"{pretrained} does not fit {', '.join(map(str, roots))}: {'; '.join(found)}")
    if image_size is None and set(recorded.cameras) == set(runner.cameras):
        return recorded, recorded
    size = tuple(image_size) if image_size else None
    return recorded, open_dataset(roots, cameras=runner.cameras, image_size=size)


def read_train_config(pretrained: Path) -> dict[str, Any] | None:
    """The resolved configuration saved beside the weights; None for checkpoints not trained here."""
    path = pretrained / "train_config.yaml"
    return yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else None


def choose_episodes(
    requested: Sequence[int] | None, info: dict[str, Any] | None, dataset: LeRobotV3Dataset, same_data: bool
) -> list[int]:
    """The requested episodes, else the checkpoint's held-out ones, else all."""
    known = {episode.index for episode in dataset.episodes}
    if requested is not None:
        missing = [index for index in requested if index not in known]
        if missing:
            raise UserError(
                f"--episodes: {', '.join(map(str, missing))} not in the dataset, "
                f"which has {min(known)} to {max(known)}"
            )
        return sorted(set(requested))
    if same_data and info is not None and info["held_out_episodes"]:
        return sorted(info["held_out_episodes"])
    return sorted(known)


def are_held_out(
    episodes: Sequence[int], info: dict[str, Any] | None, same_data: bool
) -> bool | Literal["unknown"]:
    """Whether training never saw any of the episodes; "unknown" when it was another dataset."""
    if info is None or not same_data:
        return "unknown"
    return not set(episodes) & set(info["train_episodes"])


def evaluated_frames(dataset: LeRobotV3Dataset, episode: int, start: int, steps: int | None) -> range:
    """Frame numbers within the episode. UserError when ``start`` lies past its end."""
    length = next(entry.length for entry in dataset.episodes if entry.index == episode)
    if start >= length:
        raise UserError(
            f"--start-frame {start}: episode {episode} has {length} frames; use less, or other --episodes"
        )
    return range(start, length if steps is None else min(length, start + steps))
