"""Checkpoints that stock LeRobot opens, and that are complete whenever the process dies.

    OUTPUT/checkpoints/000500/pretrained_model/   config.json model.safetensors       lerobot 0.3.2
                                                  policy_{pre,post}processor*         lerobot 0.4 and later
                                                  train_config.yaml dataset_info.json
                       000500/training_state/     state.pt
                       last -> 000500, best -> 000500

A directory gets its final name only when all of it is on disk, and the links move by one rename, so ``last``
and ``best`` never vanish and never lead to half a checkpoint. Where the file system cannot exchange two
directories, the links lead to a standby copy while a checkpoint of the same step is replaced. Hidden entries
are what a killed save left behind; the next save removes them. Only one process may save into a directory.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import random
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lerobot.policies.act.modeling_act import ACTPolicy
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from ur10e_act.atomic_io import replace_directory, sync, sync_tree
from ur10e_act.config import Config, save_config
from ur10e_act.errors import UserError
from ur10e_act.policy.act import statistics
from ur10e_act.policy.metrics_file import METRICS_FILE

LINKS = ("best", "last")
WRITING, REMOVING, STANDBY, NEW_LINK = ".writing-", ".removing-", ".standby-", ".link-"


def write_pretrained(
    folder: Path | str, policy: ACTPolicy, config: Config, dataset_info: Mapping[str, Any]
) -> None:
    """Write the pretrained_model folder: ``policy`` as LeRobot keeps it, ``config``, ``dataset_info``.

    lerobot 0.3.2 keeps the statistics in model.safetensors. Later versions ignore them there and read them
    from the two processor files, whose text is that of lerobot 0.4.4 and 0.6.1. Actions are equal bit for
    bit, but for a state with MIN_MAX and a range below 0.25: there the 1e-8 that only 0.3.2 adds to the
    range is not lost in float32, and actions agree to rounding (4e-7 with a range of 0.05).
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    policy.save_pretrained(folder)
    stats = {feature: dict(values) for feature, values in statistics(policy).items()}
    inputs, outputs = policy.config.input_features, policy.config.output_features
    # A device that a machine lacks stops LeRobot there; who has a GPU names it when loading.
    to_cpu = {"registry_name": "device_processor", "config": {"device": "cpu", "float_dtype": None}}
    normalize = _normalization_step(policy, "normalizer_processor", {**inputs, **outputs})
    unnormalize = _normalization_step(policy, "unnormalizer_processor", outputs)
    rename = {"registry_name": "rename_observations_processor", "config": {"rename_map": {}}}
    to_batch = {"registry_name": "to_batch_processor", "config": {}}
    _write_processor(folder, "policy_preprocessor", [rename, to_batch, to_cpu, normalize], stats)
    _write_processor(
        folder,
        "policy_postprocessor",
        [unnormalize, to_cpu],
        {key: stats[key] for key in outputs if key in stats},
    )
    save_config(config, folder / "train_config.yaml")
    _write_json(folder / "dataset_info.json", dataset_info)


def _normalization_step(policy: ACTPolicy, name: str, features: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "registry_name": name,
        "config": {
            "eps": 1e-8,
            "features": {
                key: {"type": feature.type.value, "shape": list(feature.shape)}
                for key, feature in features.items()
            },
            "norm_map": {kind: mode.value for kind, mode in policy.config.normalization_mapping.items()},
        },
    }


def _write_processor(
    folder: Path, name: str, steps: list[dict[str, Any]], stats: Mapping[str, Mapping[str, Tensor]]
) -> None:
    for index, step in enumerate(steps):
        # With IDENTITY throughout there is nothing to normalize with, and LeRobot writes no such file either.
        if "norm_map" in step["config"] and stats:
            step["state_file"] = f"{name}_step_{index}_{step['registry_name']}.safetensors"
            tensors = {
                f"{key}.{stat}": value.contiguous()
                for key, values in stats.items()
                for stat, value in values.items()
            }
            save_file(tensors, folder / step["state_file"])
    _write_json(folder / f"{name}.json", {"name": name, "steps": steps})


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def save_checkpoint(
    output_dir: Path | str,
    step: int,
    policy: ACTPolicy,
    config: Config,
    dataset_info: Mapping[str, Any],
    training_state: Mapping[str, Any],
    best: bool,
    keep: int,
) -> Path:
    """Save ``output_dir``/checkpoints/NNNNNN, point ``last`` (and ``best``) to it, and remove old ones.

    ``training_state`` holds tensors and plain values only (``torch.load`` reads it with weights_only). Of
    the older checkpoints the newest ``keep``, this one among them, stay (0: all), and always those that the
    links name. A checkpoint of the same step is replaced. Returns the folder. Raises UserError when the
    disk refuses.
    """
    root = Path(output_dir) / "checkpoints"
    name = f"{step:06d}"
    try:
        root.mkdir(parents=True, exist_ok=True)
        _clean_up(root)
        writing = root / (WRITING + name)
        write_pretrained(writing / "pretrained_model", policy, config, dataset_info)
        (writing / "training_state").mkdir()
        _write_training_state(writing / "training_state" / "state.pt", training_state)
        metrics = Path(output_dir) / METRICS_FILE
        if metrics.exists():
            # Where only the checkpoints are kept, a resumed run has its past from here.
            shutil.copyfile(metrics, writing / "training_state" / METRICS_FILE)
        sync_tree(writing)
        _publish(root, name)
        # ``best`` first: a run resumed from a ``last`` that takes this step for the best would never set it.
        for link in LINKS if best else ("last",):
            _point(root, link, name)
        _rotate(root, keep)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{root / name}: the checkpoint cannot be saved ({error})") from error
    return root / name


def _write_training_state(path: Path, training_state: Mapping[str, Any]) -> None:
    with open(path, "wb") as file:
        try:
            torch.save(dict(training_state), file)
        except RuntimeError as error:
            # What torch raises when its writer closes hides the reason, such as a full disk.
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def _publish(root: Path, name: str) -> None:
    """Give the complete directory ``.writing-NAME`` its name, replacing a checkpoint of that name."""
    writing, standby = root / (WRITING + name), root / (STANDBY + name)
    linked = [link for link in LINKS if _target(root, link) == name]

    def stand_by() -> None:
        if linked:
            shutil.copytree(writing, standby)
            sync_tree(standby)
        for link in linked:
            _point(root, link, standby.name)

    replace_directory(writing, root / name, root / (REMOVING + name), before_gap=stand_by)
    for link in linked:
        _point(root, link, name)


def _clean_up(root: Path) -> None:
    """Remove what killed saves left; a link left on a standby copy gets a checkpoint with a proper name."""
    for entry in root.iterdir():
        if entry.name.startswith(NEW_LINK):
            entry.unlink()
        elif entry.name.startswith((WRITING, REMOVING)):
            shutil.rmtree(entry)
    for link in LINKS:
        target = _target(root, link)
        if target.startswith(STANDBY):
            name = target.removeprefix(STANDBY)
            if not (root / name).exists():
                writing = root / (WRITING + name)
                shutil.copytree(root / target, writing)
                sync_tree(writing)
                os.rename(writing, root / name)
                sync(root)
            _point(root, link, name)
    for entry in root.glob(f"{STANDBY}*"):
        shutil.rmtree(entry)


def _rotate(root: Path, keep: int) -> None:
    names = sorted((entry.name for entry in root.iterdir() if re.fullmatch(r"\d{6,}", entry.name)), key=int)
    linked = {_target(root, link) for link in LINKS}
    for name in names[:-keep] if keep else []:
        if name not in linked:
            # Under its own name a half-removed checkpoint would look like one.
            os.rename(root / name, root / (REMOVING + name))
    for entry in root.glob(f"{REMOVING}*"):
        shutil.rmtree(entry)
    for entry in root.glob(f"{STANDBY}*"):
        shutil.rmtree(entry)


def _target(root: Path, link: str) -> str:
    """The name that ``link`` leads to, "" without such a link."""
    return os.readlink(root / link) if (root / link).is_symlink() else ""


def _point(root: Path, link: str, name: str) -> None:
    os.symlink(name, root / (NEW_LINK + link))
    os.replace(root / (NEW_LINK + link), root / link)
    sync(root)


def find_checkpoint(path: Path | str) -> Path:
    """The pretrained_model folder that ``path`` means, as a real path that later saves do not redirect.

    ``path`` is a pretrained_model folder, a checkpoint (NNNNNN, ``last``, ``best``), or the output_dir of a
    training, which means its best checkpoint, else its last. Raises UserError for anything else.
    """
    path = Path(path)
    if not path.is_dir():
        reason = (
            "is not a folder"
            if path.exists()
            else "the link leads nowhere"
            if path.is_symlink()
            else "not found"
        )
        raise UserError(f"{path}: {reason}; name a checkpoint, e.g. OUTPUT/checkpoints/last")
    candidates = [path, path / "pretrained_model"]
    candidates += [
        folder / link / "pretrained_model" for folder in (path / "checkpoints", path) for link in LINKS
    ]
    for candidate in candidates:
        if (candidate / "config.json").is_file():
            if not (candidate / "model.safetensors").is_file():
                raise UserError(f"{candidate}: model.safetensors is missing; copy the whole folder again")
            return candidate.resolve()
    raise UserError(
        f"{path}: no checkpoint in it; name a folder with config.json and model.safetensors, a checkpoint "
        "NNNNNN, or the output_dir of a training"
    )


def load_training_state(checkpoint_dir: Path | str) -> dict[str, Any]:
    """What ``save_checkpoint`` got as ``training_state``, on the CPU. Raises UserError if it is not there."""
    path = Path(checkpoint_dir) / "training_state" / "state.pt"
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(
            f"{path}: not found; only a checkpoint with its training state can be resumed"
        ) from None
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise UserError(f"{path}: cannot be read ({error}); resume from another checkpoint") from None


def load_dataset_info(pretrained_dir: Path | str) -> dict[str, Any]:
    """What a checkpoint says of its training data. UserError where it says nothing, as LeRobot's do."""
    path = Path(pretrained_dir) / "dataset_info.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}); train.py writes it beside config.json") from None


def fingerprint(pretrained_dir: Path | str) -> str:
    """sha256 (hex) of config.json and model.safetensors: equal for checkpoints that act equally."""
    digest = hashlib.sha256()
    for name in ("config.json", "model.safetensors"):
        with open(Path(pretrained_dir) / name, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()


def rng_state() -> dict[str, Any]:
    """The states of Python's, NumPy's and torch's global generators, and of the CUDA device in use."""
    numpy = np.random.get_state(legacy=False)
    state = {
        "python": random.getstate(),
        "numpy": (
            numpy["bit_generator"],
            numpy["state"]["key"].tolist(),
            numpy["state"]["pos"],
            numpy["has_gauss"],
            numpy["gauss"],
        ),
        "torch": torch.get_rng_state(),
    }
    # Asking would start CUDA in a process that trains on the CPU.
    if torch.cuda.is_initialized():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def set_rng_state(state: Mapping[str, Any]) -> None:
    """Put back what ``rng_state`` returned, here or in another process."""
    random.setstate(state["python"])
    np.random.set_state(tuple(state["numpy"]))
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])
