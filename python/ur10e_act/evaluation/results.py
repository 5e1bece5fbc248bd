"""What offline_eval.py and train.py left, read for the report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ur10e_act.errors import UserError, one_line
from ur10e_act.evaluation.summary import EpisodeErrors, EvalSummary, read_summary
from ur10e_act.policy.metrics_file import METRICS_FILE, read_metrics

ALL_EPISODES = "all_episodes.parquet"
TRAINING_FIGURES = {"train": ("l1_loss",), "val": ("val_l1", "val_mae")}


def episode_file(episode: int) -> str:
    """The name of the file with the rows of one episode."""
    return f"episode_{episode:03d}.parquet"


@dataclass(frozen=True)
class SignedErrors:
    """The executed action's error, predicted - true, of one or all joints, in dataset units."""

    signed: np.ndarray  # (n,) float32

    def quantile(self, percent: float) -> float:
        """Percentile of the absolute error."""
        return float(np.percentile(np.abs(self.signed), percent))


@dataclass(frozen=True)
class ShownEpisode:
    """An episode that is drawn, and why."""

    reason: str
    errors: EpisodeErrors
    rows: pa.Table


@dataclass(frozen=True)
class Results:
    """What the page is made of."""

    summary: EvalSummary
    errors: dict[str, SignedErrors]  # by joint, over all evaluated frames
    episodes: list[ShownEpisode]
    train: list[dict[str, Any]]  # train records of metrics.jsonl, by step
    val: list[dict[str, Any]]


def read_results(eval_dir: Path, train_dir: Path | None) -> Results:
    """Read the outputs. Raises UserError for a missing, incomplete or foreign directory."""
    summary = read_summary(eval_dir)
    try:
        errors = {
            joint: SignedErrors(
                np.subtract(
                    *read_columns(eval_dir / ALL_EPISODES, f"predicted_action_{joint}", f"gt_action_{joint}")
                )
            )
            for joint in summary.joints
        }
        episodes = [
            ShownEpisode(reason, entry, pq.ParquetFile(eval_dir / episode_file(entry.episode)).read())
            for reason, entry in choose_episodes(summary.per_episode)
        ]
    # KeyError: a column is missing.
    except (OSError, KeyError, pa.ArrowException) as error:
        raise UserError(f"{eval_dir}: {one_line(error)}; run offline_eval.py again") from None
    records = read_training(train_dir) if train_dir else []
    return Results(
        summary,
        errors,
        episodes,
        [record for record in records if record["type"] == "train"],
        [record for record in records if record["type"] == "val"],
    )


def read_columns(path: Path, *names: str) -> list[np.ndarray]:
    """Single columns of a parquet file; one joint at a time keeps memory small."""
    table = pq.ParquetFile(path).read(columns=list(names))
    return [table.column(name).to_numpy() for name in names]


def read_training(train_dir: Path) -> list[dict[str, Any]]:
    """Records of metrics.jsonl by step; of a step logged twice (a resumed run), the later one.

    Raises UserError where the file cannot be read, or a record lacks a figure that is drawn.
    """
    path = train_dir / METRICS_FILE
    try:
        records = read_metrics(path)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path}: cannot be read ({getattr(error, 'strerror', None) or error}); "
            "leave out --train for a report on the evaluation alone"
        ) from None
    for record in records:
        for key in ("type", "step", *TRAINING_FIGURES.get(record.get("type", ""), ())):
            if key not in record:
                raise UserError(f"{path}: a record has no {key!r}; is it of train.py?")
    latest = {(record["type"], record["step"]): record for record in records}
    return sorted(latest.values(), key=lambda record: record["step"])


def choose_episodes(entries: Sequence[EpisodeErrors]) -> list[tuple[str, EpisodeErrors]]:
    """Up to three episodes to draw: the best, the one of median error, the worst."""
    ranked = sorted(entries, key=lambda entry: (entry.mae, entry.episode))
    if len(ranked) == 1:
        return [("the only one", ranked[0])]
    if len(ranked) == 2:
        return [("the lower error", ranked[0]), ("the higher error", ranked[1])]
    return [
        ("median error", ranked[(len(ranked) - 1) // 2]),
        ("highest error", ranked[-1]),
        ("lowest error", ranked[0]),
    ]
