"""summary.json: the figures of an evaluation and what they were measured on, for its writer and its readers.

A figure that is not defined is None, null in the file: a baseline that does not exist, or an offset that no
evaluated frame reaches. Errors are mean absolute errors in the dataset's units.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ur10e_act.errors import UserError

SUMMARY_FILE = "summary.json"


@dataclass(frozen=True)
class CheckpointFacts:
    """Which policy was evaluated; ``train_config`` and ``init_checkpoint`` as train.py saved them."""

    path: str
    fingerprint: str
    step: int | None
    init_checkpoint: str | None
    train_config: dict[str, Any] | None


@dataclass(frozen=True)
class DatasetFacts:
    """On which data; ``cameras``: (height, width) in px as the policy reads them."""

    roots: list[str]
    fingerprint: str
    robot_type: str
    fps: int
    cameras: dict[str, tuple[int, int]]
    trained_on: bool | Literal["unknown"]


@dataclass(frozen=True)
class Settings:
    """How the policy was run; ``num_steps`` None is to the end of each episode."""

    start_frame: int
    num_steps: int | None
    batch_size: int
    n_action_steps: int
    temporal_ensemble_coeff: float | None
    latency_frames: int
    latency_warmup_frames: int


@dataclass(frozen=True)
class BaselineErrors:
    """Errors of a trivial policy."""

    overall: float | None
    per_joint: dict[str, float | None]


@dataclass(frozen=True)
class Baselines:
    """The trivial policies, on the frames of the policy."""

    hold_position: BaselineErrors
    mean_action: BaselineErrors


@dataclass(frozen=True)
class ExecutedErrors:
    """Errors of the action executed at each frame; of the baselines, of the first step of their chunks."""

    overall: float
    per_joint: dict[str, float]
    baselines: Baselines


@dataclass(frozen=True)
class ErrorsByOffset:
    """Errors by offset in the chunk, from 1; ``frames`` counts the evaluated frames that reach it."""

    offset: list[int]
    frames: list[int]
    policy: list[float | None]
    hold_position: list[float | None]
    mean_action: list[float | None]

    def reached(self) -> tuple[list[int], dict[str, list[float]]]:
        """The offsets that a frame reaches, and the errors there of the policy and each defined baseline."""
        rows = [i for i, frames in enumerate(self.frames) if frames]
        series = {
            name: [value for i in rows if (value := values[i]) is not None]
            for name, values in (
                ("policy", self.policy),
                ("hold_position", self.hold_position),
                ("mean_action", self.mean_action),
            )
        }
        complete = {name: values for name, values in series.items() if len(values) == len(rows)}
        return [self.offset[i] for i in rows], complete


@dataclass(frozen=True)
class ChunkErrors:
    """Errors over whole chunks, a chunk a frame; ``valid_steps`` leaves out those past an episode's end."""

    overall: float
    per_joint: dict[str, float]
    valid_steps: int
    baselines: Baselines
    by_offset: ErrorsByOffset


@dataclass(frozen=True)
class BaselineDefinitions:
    """What each baseline does, in words."""

    hold_position: str
    mean_action: str


@dataclass(frozen=True)
class EpisodeErrors:
    """Over the evaluated part of an episode: ``mae`` of executed actions, ``chunk_mae`` of whole chunks."""

    episode: int
    frames: int
    mae: float
    chunk_mae: float


@dataclass(frozen=True)
class Latency:
    """Times of full model calls at batch 1, in ms."""

    mean: float
    p50: float
    p95: float
    p99: float
    max: float
    samples: list[float]


@dataclass(frozen=True)
class Realtime:
    """Whether the calls keep up with the dataset's frame rate."""

    keeps_up: bool
    fps: int
    period_ms: float
    calls_over_period: int
    judged_by: str


@dataclass(frozen=True)
class EvalSummary:
    """summary.json; keys are written in this order."""

    created: str  # ISO 8601, UTC
    checkpoint: CheckpointFacts
    dataset: DatasetFacts
    held_out: bool | Literal["unknown"]
    episodes: list[int]
    num_episodes: int
    num_frames: int
    joints: list[str]
    units: str
    mode: Literal["batched", "queue", "ensemble"]
    settings: Settings
    blackout_images: bool
    mae: ExecutedErrors
    chunk_mae: ChunkErrors
    baseline_definitions: BaselineDefinitions
    per_episode: list[EpisodeErrors]
    latency_ms: Latency
    realtime: Realtime
    device: str
    versions: dict[str, str]


def to_json(summary: EvalSummary) -> str:
    """The text of summary.json."""
    return json.dumps(dataclasses.asdict(summary), indent=2, allow_nan=False) + "\n"


def read_summary(directory: Path) -> EvalSummary:
    """summary.json of an evaluation's output directory.

    Raises UserError where it is missing, cannot be read, or lacks or mistypes an entry. Entries that are not
    known are ignored.
    """
    path = directory / SUMMARY_FILE
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"{path}: not found; is {directory} the output of a finished offline_eval.py?"
        ) from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}); run offline_eval.py again") from None
    try:
        summary: EvalSummary = _parse(raw, EvalSummary, "")
        _check_figures(summary)
    except ValueError as error:
        raise UserError(f"{path}: {error}; run offline_eval.py again") from None
    return summary


def _parse(value: Any, hint: Any, key: str) -> Any:
    """``value``, as JSON has it, as the type ``hint``. Raises ValueError with the dotted ``key``."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint) and isinstance(value, dict):
        hints = typing.get_type_hints(hint)
        prefix = f"{key}." if key else ""
        for name in hints:
            if name not in value:
                raise ValueError(f"has no '{prefix}{name}'")
        return hint(**{name: _parse(value[name], hints[name], prefix + name) for name in hints})
    if origin in (typing.Union, types.UnionType):
        for arg in args:
            try:
                return _parse(value, arg, key)
            except ValueError:
                continue
    if origin is dict and isinstance(value, dict):
        return {name: _parse(entry, args[1], f"{key}.{name}") for name, entry in value.items()}
    if origin is list and isinstance(value, list):
        return [_parse(entry, args[0], f"{key}[{i}]") for i, entry in enumerate(value)]
    if origin is tuple and isinstance(value, list) and len(value) == len(args):
        return tuple(_parse(entry, arg, key) for entry, arg in zip(value, args, strict=True))
    if (origin is Literal and value in args) or hint is Any:
        return value
    if type(value) is hint or (hint is float and type(value) is int):
        return value
    wanted = hint.__name__ if isinstance(hint, type) else str(hint)
    raise ValueError(f"'{key}' is {type(value).__name__}, not {wanted}")


def _check_figures(summary: EvalSummary) -> None:
    """Raise ValueError where a joint, an offset or a whole list has no figure: readers do not ask again."""
    for key, entries in (
        ("joints", summary.joints),
        ("per_episode", summary.per_episode),
        ("latency_ms.samples", summary.latency_ms.samples),
    ):
        if not entries:
            raise ValueError(f"'{key}' is empty")
    for kind, errors in (("mae", summary.mae), ("chunk_mae", summary.chunk_mae)):
        for figures in (errors, errors.baselines.hold_position, errors.baselines.mean_action):
            for joint in summary.joints:
                if joint not in figures.per_joint:
                    raise ValueError(f"has no '{kind}' of {joint!r}")
    by_offset = dataclasses.asdict(summary.chunk_mae.by_offset)
    if len({len(column) for column in by_offset.values()}) > 1:
        raise ValueError("'chunk_mae.by_offset' has columns of different lengths")
    offsets, series = summary.chunk_mae.by_offset.reached()
    if not offsets or "policy" not in series:
        raise ValueError("'chunk_mae.by_offset' lacks errors of the policy")
