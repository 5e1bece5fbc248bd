"""Figures of an evaluation: errors, summed frame by frame, and the latency's percentiles."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ur10e_act.evaluation.summary import (
    BaselineErrors,
    Baselines,
    ChunkErrors,
    ErrorsByOffset,
    ExecutedErrors,
    Latency,
    Realtime,
)


class AbsoluteErrors:
    """Streaming sums of |predicted - true| by chunk offset and joint, over the steps that exist.

    Held in float64 (chunk, A) and int64 (chunk,): the size does not depend on the number of frames.
    """

    def __init__(self, chunk_size: int, action_dim: int) -> None:
        self.total = np.zeros((chunk_size, action_dim))
        self.steps = np.zeros(chunk_size, dtype=np.int64)

    def add(self, predicted: np.ndarray, true: np.ndarray, valid: np.ndarray) -> None:
        """predicted (may broadcast), true: (n, chunk, A); valid: (n, chunk) bool, False for padding."""
        errors = np.abs(np.asarray(predicted, dtype=np.float64) - true)
        self.total += (errors * valid[:, :, None]).sum(axis=0)
        self.steps += valid.sum(axis=0)

    def per_joint(self) -> np.ndarray:
        """Mean over frames and offsets, (A,)."""
        return self.total.sum(axis=0) / self.steps.sum()

    def first_step(self) -> np.ndarray:
        """Mean over frames at the first offset, (A,)."""
        return self.total[0] / self.steps[0]

    def by_offset(self) -> np.ndarray:
        """Mean over frames and joints, (chunk,); NaN at offsets no evaluated frame reaches."""
        with np.errstate(invalid="ignore", divide="ignore"):
            return self.total.mean(axis=1) / self.steps


def chunk_targets(actions: np.ndarray, frames: np.ndarray, chunk_size: int) -> tuple[np.ndarray, np.ndarray]:
    """The recorded chunks of frames (n,) of an episode's actions (length, A): (n, chunk, A), and which of
    their steps exist, (n, chunk) bool. Past the episode's end the last action is repeated."""
    steps = frames[:, None] + np.arange(chunk_size)
    return actions[np.minimum(steps, len(actions) - 1)], steps < len(actions)


class ErrorTotals:
    """Errors of the policy and the baselines over all evaluated frames."""

    def __init__(self, chunk_size: int, action_dim: int) -> None:
        self.executed = AbsoluteErrors(1, action_dim)
        self.policy = AbsoluteErrors(chunk_size, action_dim)
        self.hold_position = AbsoluteErrors(chunk_size, action_dim)
        self.mean_action = AbsoluteErrors(chunk_size, action_dim)

    def executed_errors(self, joints: Sequence[str]) -> ExecutedErrors:
        """The ``mae`` of the summary."""
        per_joint = self.executed.per_joint()
        return ExecutedErrors(
            overall=float(per_joint.mean()),
            per_joint=dict(zip(joints, per_joint.tolist(), strict=True)),
            baselines=Baselines(
                hold_position=_baseline(self.hold_position.first_step(), joints),
                mean_action=_baseline(self.mean_action.first_step(), joints),
            ),
        )

    def chunk_errors(self, joints: Sequence[str]) -> ChunkErrors:
        """The ``chunk_mae`` of the summary."""
        per_joint = self.policy.per_joint()
        return ChunkErrors(
            overall=float(per_joint.mean()),
            per_joint=dict(zip(joints, per_joint.tolist(), strict=True)),
            valid_steps=int(self.policy.steps.sum()),
            baselines=Baselines(
                hold_position=_baseline(self.hold_position.per_joint(), joints),
                mean_action=_baseline(self.mean_action.per_joint(), joints),
            ),
            by_offset=ErrorsByOffset(
                offset=list(range(1, len(self.policy.steps) + 1)),
                frames=self.policy.steps.tolist(),
                policy=_none_for_nan(self.policy.by_offset()),
                hold_position=_none_for_nan(self.hold_position.by_offset()),
                mean_action=_none_for_nan(self.mean_action.by_offset()),
            ),
        )


def _none_for_nan(values: np.ndarray) -> list[float | None]:
    """A vector as a list, None where a figure is not defined (NaN)."""
    return [None if np.isnan(value) else value for value in values.tolist()]


def _baseline(per_joint: np.ndarray, joints: Sequence[str]) -> BaselineErrors:
    return BaselineErrors(
        overall=None if np.isnan(per_joint).any() else float(per_joint.mean()),
        per_joint=dict(zip(joints, _none_for_nan(per_joint), strict=True)),
    )


def latency_figures(times_ms: np.ndarray) -> Latency:
    """Mean, percentiles and maximum of the measured calls (n,), in ms."""
    p50, p95, p99 = (float(np.percentile(times_ms, q)) for q in (50, 95, 99))
    return Latency(
        mean=float(times_ms.mean()),
        p50=p50,
        p95=p95,
        p99=p99,
        max=float(times_ms.max()),
        samples=times_ms.round(4).tolist(),
    )


def judge_realtime(times_ms: np.ndarray, fps: int, mode: str) -> Realtime:
    """Whether the measured calls (n,), in ms, keep up with the dataset's fps."""
    period = 1e3 / fps
    when = {"queue": "the call that computes a chunk must fit"}.get(mode, "every step must fit")
    return Realtime(
        keeps_up=float(np.percentile(times_ms, 99)) <= period,
        fps=fps,
        period_ms=period,
        calls_over_period=int((times_ms > period).sum()),
        judged_by="p99 of full model calls at batch 1, preprocessing included, against a frame: "
        f"{when} one frame period",
    )
