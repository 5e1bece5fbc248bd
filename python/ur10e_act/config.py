"""Training configuration: typed dataclasses, read from YAML, changed by ``section.key=value`` overrides.

python -m ur10e_act.config --config config.yaml --override training.lr=5e-5

checks it, and prints what results.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

from ur10e_act.errors import UserError, run_cli

T = TypeVar("T")
Normalization = Literal["MEAN_STD", "MIN_MAX", "IDENTITY"]


class ConfigError(UserError):
    """A configuration that cannot be used; the message names the source and the key."""


def bounded(default: float | None, **bounds: float) -> Any:
    """A field whose value must be >= ``least``, > ``above``, <= ``most`` and < ``below``, where given."""
    return field(default=default, metadata=bounds)


@dataclass(frozen=True)
class DataConfig:
    """Which demonstrations are read, and how."""

    roots: tuple[str, ...] = ()
    episodes: tuple[int, ...] | None = None
    held_out_episodes: tuple[int, ...] | None = None
    held_out_fraction: float = bounded(0.1, above=0, below=1)
    held_out_seed: int = 0
    cameras: tuple[str, ...] | None = None
    image_size: tuple[int, int] | None = None
    image_stats: Literal["imagenet", "dataset"] = "imagenet"
    image_transforms: bool = False
    num_workers: int = bounded(4, least=0)

    def __post_init__(self) -> None:
        for key in ("episodes", "held_out_episodes", "cameras"):
            values = getattr(self, key)
            if values is not None and not values:
                raise ValueError(f"data.{key}: the list is empty; use null to let it be chosen")
            if values is not None and len(set(values)) != len(values):
                raise ValueError(f"data.{key}: names one entry twice")
        if self.image_size is not None and min(self.image_size) < 32:
            raise ValueError(
                f"data.image_size: {list(self.image_size)} is below the ResNet's 32 px; height first"
            )


@dataclass(frozen=True)
class NormalizationConfig:
    """How each kind of feature is normalized (LeRobot's NormalizationMode)."""

    visual: Normalization = "MEAN_STD"
    state: Normalization = "MEAN_STD"
    action: Normalization = "MEAN_STD"


@dataclass(frozen=True)
class ModelConfig:
    """Names and defaults of LeRobot's ACTConfig (lerobot 0.3.2, policies/act/configuration_act.py)."""

    chunk_size: int = bounded(100, least=1)
    n_action_steps: int = bounded(100, least=1)
    vision_backbone: Literal["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"] = "resnet18"
    pretrained_backbone_weights: str | None = "ResNet18_Weights.IMAGENET1K_V1"
    replace_final_stride_with_dilation: bool = False
    pre_norm: bool = False
    dim_model: int = bounded(512, least=1)
    n_heads: int = bounded(8, least=1)
    dim_feedforward: int = bounded(3200, least=1)
    feedforward_activation: Literal["relu", "gelu"] = "relu"
    n_encoder_layers: int = bounded(4, least=1)
    n_decoder_layers: int = bounded(1, least=1)
    use_vae: bool = True
    latent_dim: int = bounded(32, least=1)
    n_vae_encoder_layers: int = bounded(4, least=1)
    temporal_ensemble_coeff: float | None = None
    dropout: float = bounded(0.1, least=0, below=1)
    kl_weight: float = bounded(10.0, least=0)
    normalization: NormalizationConfig = field(default_factory=NormalizationConfig)

    def __post_init__(self) -> None:
        if self.n_action_steps > self.chunk_size:
            raise ValueError(
                f"model.n_action_steps: {self.n_action_steps} is above model.chunk_size ({self.chunk_size})"
            )
        if self.temporal_ensemble_coeff is not None and self.n_action_steps != 1:
            raise ValueError("model.n_action_steps: must be 1 with model.temporal_ensemble_coeff")
        if self.dim_model % self.n_heads or self.dim_model % 4:
            raise ValueError(
                f"model.dim_model: {self.dim_model} is not a multiple of 4 and model.n_heads ({self.n_heads})"
            )
        if self.replace_final_stride_with_dilation and self.vision_backbone in ("resnet18", "resnet34"):
            raise ValueError(
                "model.replace_final_stride_with_dilation: only torchvision's resnet50 and larger can do it"
            )


@dataclass(frozen=True)
class TrainingConfig:
    """The optimization. ``batch_size`` counts samples per rank and micro-batch, as in LeRobot."""

    output_dir: str = "outputs/train"
    init_checkpoint: str | None = None
    seed: int = bounded(1000, least=0)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    steps: int = bounded(100_000, least=1)
    batch_size: int = bounded(8, least=1)
    gradient_accumulation_steps: int = bounded(1, least=1)
    lr: float = bounded(1e-5, above=0)
    lr_backbone: float = bounded(1e-5, least=0)
    weight_decay: float = bounded(1e-4, least=0)
    grad_clip_norm: float = bounded(10.0, above=0)
    schedule: Literal["constant", "cosine"] = "constant"
    warmup_steps: int = bounded(0, least=0)
    final_lr_fraction: float = bounded(0.0, least=0, most=1)
    bf16: bool = True
    compile: bool = False
    val_every: int = bounded(5_000, least=1)
    save_every: int = bounded(20_000, least=1)
    save_minutes: float | None = bounded(None, above=0)
    keep_checkpoints: int = bounded(3, least=0)

    def __post_init__(self) -> None:
        if self.warmup_steps >= self.steps:
            raise ValueError(
                f"training.warmup_steps: {self.warmup_steps} leaves nothing of training.steps ({self.steps})"
            )


@dataclass(frozen=True)
class EvalConfig:
    """Defaults of offline_eval.py for checkpoints trained with this file."""

    mode: Literal["batched", "queue", "ensemble"] = "batched"
    n_action_steps: int | None = bounded(None, least=1)
    temporal_ensemble_coeff: float = 0.01
    batch_size: int = bounded(32, least=1)
    latency_frames: int = bounded(50, least=1)
    latency_warmup_frames: int = bounded(5, least=0)


@dataclass(frozen=True)
class LoggingConfig:
    """What rank 0 writes beside ``metrics.jsonl``, and how often (steps)."""

    log_every: int = bounded(200, least=1)
    tensorboard: bool = True
    wandb: bool = False
    wandb_project: str | None = None

    def __post_init__(self) -> None:
        if self.wandb and not self.wandb_project:
            raise ValueError("logging.wandb_project: needed when logging.wandb is true")


@dataclass(frozen=True)
class Config:
    """The whole configuration; one attribute a YAML section."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)
    logging: LoggingConfig = field(default_factory=LoggingConfig)


def _describe(hint: Any) -> str:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        return "one of " + ", ".join(args)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_describe(arg) for arg in args)
    if origin is tuple:
        count = "" if args[-1] is Ellipsis else f"{len(args)} "
        return f"a list of {count}{'strings' if args[0] is str else 'whole numbers'}"
    return {int: "a whole number", float: "a number", bool: "true or false", str: "a string"}.get(
        hint, "null"
    )


def _convert(value: Any, hint: Any) -> Any:
    """``value`` as the type ``hint``; ValueError when it is another type."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        if value is None and type(None) in args:
            return None
        return _convert(value, next(arg for arg in args if arg is not type(None)))
    if origin is Literal and value in args:
        return value
    if origin is tuple and args == (str, ...) and isinstance(value, str):
        return (value,)
    if origin is tuple and isinstance(value, (list, tuple)):
        if args[-1] is Ellipsis:
            return tuple(_convert(entry, args[0]) for entry in value)
        if len(value) == len(args):
            return tuple(_convert(entry, arg) for entry, arg in zip(value, args, strict=True))
    if hint is float and isinstance(value, (int, float, str)) and not isinstance(value, bool):
        # YAML 1.1 reads 1e-5 as a string.
        number = float(value)
        if math.isfinite(number):
            return number
    if hint in (bool, str) and isinstance(value, hint):
        return value
    if hint is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError


def _check_bounds(key: str, value: Any, bounds: Mapping[str, float]) -> None:
    if value is None:
        return
    for name, holds, words in (
        ("least", lambda a, b: a >= b, "at least"),
        ("above", lambda a, b: a > b, "above"),
        ("most", lambda a, b: a <= b, "at most"),
        ("below", lambda a, b: a < b, "below"),
    ):
        if name in bounds and not holds(value, bounds[name]):
            raise ValueError(f"{key}: {value} must be {words} {bounds[name]}")


def _nested(hint: Any) -> tuple[Any, bool]:
    """The dataclass that a section has, if any, and whether it is a table of them by name."""
    args = typing.get_args(hint)
    if typing.get_origin(hint) is dict and dataclasses.is_dataclass(args[1]):
        return args[1], True
    return next((kind for kind in (hint, *args) if dataclasses.is_dataclass(kind)), None), False


def _build(cls: type, raw: Any, prefix: str) -> Any:
    if raw is None:
        raw = {}
    if not isinstance(raw, Mapping):
        raise ValueError(f"{prefix or 'the file'}: expected keys and values, got {raw!r}")
    hints = typing.get_type_hints(cls)
    fields = {entry.name: entry for entry in dataclasses.fields(cls)}
    arguments: dict[str, Any] = {}
    for name, value in raw.items():
        key = f"{prefix}.{name}" if prefix else str(name)
        if name not in fields:
            close = difflib.get_close_matches(str(name), fields, n=1)
            advice = f"did you mean {close[0]}?" if close else f"known are {', '.join(fields)}"
            raise ValueError(f"{key}: unknown key; {advice}")
        nested, many = _nested(hints[name])
        if nested is not None and many:
            if not isinstance(value, Mapping):
                raise ValueError(f"{key}: expected names with keys and values below, got {value!r}")
            arguments[name] = {
                str(label): _build(nested, entry, f"{key}.{label}") for label, entry in value.items()
            }
            continue
        if nested is not None:
            optional = type(None) in typing.get_args(hints[name])
            arguments[name] = None if optional and value is None else _build(nested, value, key)
            continue
        try:
            arguments[name] = _convert(value, hints[name])
        except ValueError:
            raise ValueError(f"{key}: expected {_describe(hints[name])}, got {value!r}") from None
        _check_bounds(key, arguments[name], fields[name].metadata)
    for name, entry in fields.items():
        needed = entry.default is dataclasses.MISSING and entry.default_factory is dataclasses.MISSING
        if needed and name not in arguments:
            raise ValueError(f"{prefix}.{name}: missing")
    return cls(**arguments)


def _apply_override(raw: dict[str, Any], override: str, example: str, depth: int) -> None:
    path, equals, text = override.partition("=")
    keys = path.strip().split(".")
    if not equals or len(keys) < depth or not all(keys):
        raise ValueError(f"--override {override!r}: write it as section.key=value, e.g. {example}")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ValueError(f"--override {override!r}: the value is not YAML") from None
    node = raw
    for key in keys[:-1]:
        if node.get(key) is None:
            node[key] = {}
        node = node[key]
        if not isinstance(node, dict):
            raise ValueError(f"{path}: unknown key; {key} is not a section")
    node[keys[-1]] = value


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML configuration and apply ``section.key=value`` overrides, the last one winning.

    Keys that the file leaves out have the defaults above. Raises ConfigError, naming file and key, for a file
    that cannot be read, unknown keys, wrong types and impossible values.
    """
    return load_as(Config, path, overrides, "training.lr=5e-5")


def load_as(cls: type[T], path: str | Path, overrides: Sequence[str] = (), example: str = "key=value") -> T:
    """``load_config`` for any dataclass whose fields are values, dataclasses or tables of dataclasses."""
    try:
        raw = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" at line {mark.line + 1}" if mark else ""
        raise ConfigError(f"{path}: not valid YAML{where} ({getattr(error, 'problem', error)})") from None
    if raw is None:
        raw = {}
    try:
        if isinstance(raw, dict):
            sections_only = all(_nested(hint)[0] for hint in typing.get_type_hints(cls).values())
            for override in overrides:
                _apply_override(raw, override, example, 2 if sections_only else 1)
        return _build(cls, raw, "")
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None


def to_dict(config: Any) -> dict[str, Any]:
    """The configuration as plain dicts and lists."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(entry) for key, entry in value.items()}
        return [plain(entry) for entry in value] if isinstance(value, (tuple, list)) else value

    return plain(dataclasses.asdict(config))


def save_config(config: Config, path: str | Path) -> None:
    """Write the resolved configuration as YAML that ``load_config`` reads back to the same values."""
    Path(path).write_text(dump_config(config), encoding="utf-8")


def dump_config(config: Any) -> str:
    return yaml.safe_dump(to_dict(config), sort_keys=False)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """``--config`` and ``--override``, as every command takes them."""
    parser.add_argument("--config", type=Path, required=True, help="YAML file, see config.yaml")
    parser.add_argument(
        "--override", action="append", default=[], metavar="SECTION.KEY=VALUE", help="may be repeated"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Check a configuration, and print what results.")
    add_arguments(parser)
    # The arguments of train.py are taken as they are.
    arguments, _ = parser.parse_known_args()
    print(dump_config(load_config(arguments.config, arguments.override)), end="")


if __name__ == "__main__":
    run_cli(main)
