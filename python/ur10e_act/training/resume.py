"""Whether a run starts or resumes, and from which checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ur10e_act.config import Config, load_config, to_dict
from ur10e_act.errors import UserError
from ur10e_act.policy.checkpoint import load_dataset_info

# What may change between a run and its resumption; all else would make it another run.
RESUMABLE_CHANGES = {
    "data.roots", "data.num_workers", "training.output_dir", "training.init_checkpoint", "training.device",
    "training.steps", "training.bf16", "training.compile", "training.val_every", "training.save_every",
    "training.save_minutes", "training.keep_checkpoints",
}  # fmt: skip


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"a": {"b": 1}} -> {"a.b": 1}."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def find_start(config: Config, resume: bool) -> Path | None:
    """The checkpoint to resume from, or None for a new run; UserError where neither is possible."""
    last = Path(config.training.output_dir) / "checkpoints" / "last"
    if not resume:
        if last.exists():
            raise UserError(
                f"{last}: holds a run already; add --resume, or choose another training.output_dir"
            )
        return None
    if not last.exists():
        raise UserError(f"{last}: no checkpoint to resume from; omit --resume to start")
    saved = flatten(to_dict(load_config(last / "pretrained_model" / "train_config.yaml")))
    for key, value in flatten(to_dict(config)).items():
        free = key in RESUMABLE_CHANGES or key.split(".")[0] in ("eval", "logging")
        if not free and saved.get(key) != value:
            raise UserError(f"--resume: {key} is {value}, but {last} was trained with {saved.get(key)}")
    return last.resolve()


def check_same_data(start: Path, fingerprint: str, roots: tuple[str, ...]) -> None:
    """Raise UserError where the checkpoint ``start`` was trained on other data than those in ``roots``."""
    if load_dataset_info(start / "pretrained_model")["fingerprint"] != fingerprint:
        raise UserError(f"--resume: {', '.join(roots)} is not the data that {start} was trained on")
