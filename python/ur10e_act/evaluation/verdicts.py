"""What the figures of an evaluation mean, in words."""

from __future__ import annotations

from typing import Any, NamedTuple

from ur10e_act.evaluation.charts import format_number
from ur10e_act.evaluation.results import Results
from ur10e_act.evaluation.summary import EvalSummary


class Verdict(NamedTuple):
    """``tone`` is a CSS class: good, bad or unsure."""

    tone: str
    headline: str
    reason: str


def format_ratio(value: float) -> str:
    """A ratio, for reading."""
    return f"{value:.1f}" if value < 10 else f"{value:.0f}"


def ratio_to_hold(summary: EvalSummary) -> float | None:
    """Holding's chunk error over the policy's; above 1 the policy is better."""
    hold = summary.chunk_mae.baselines.hold_position.overall
    return None if hold is None else hold / max(summary.chunk_mae.overall, 1e-12)


def verdict_hold(summary: EvalSummary) -> Verdict:
    """Is the policy better than not moving?"""
    chunk = summary.chunk_mae
    hold, ratio = chunk.baselines.hold_position, ratio_to_hold(summary)
    if ratio is None:
        return Verdict(
            "unsure",
            "Holding still: cannot be said",
            "Not every action has a state of the same name to hold.",
        )
    pairs = [(chunk.per_joint[joint], hold.per_joint[joint]) for joint in summary.joints]
    better = sum(held is not None and error < held for error, held in pairs)
    reason = (
        f"Mean error over the action chunk: {format_number(chunk.overall)}; holding the joint position: "
        f"{format_number(hold.overall)}. Better on {better} of {len(summary.joints)} joints."
    )
    first, hold_first = chunk.by_offset.policy[0], chunk.by_offset.hold_position[0]
    if ratio > 1.05 and first is not None and hold_first is not None and first > hold_first:
        reason += (
            f" On the first step alone, holding is better: {format_number(hold_first)} against "
            f"{format_number(first)}."
        )
    if ratio > 1.05:
        return Verdict("good", f"{format_ratio(ratio)}× better than holding still", reason)
    if ratio < 0.95:
        return Verdict("bad", f"{format_ratio(1 / ratio)}× worse than holding still", reason)
    return Verdict("bad", "No better than holding still", reason)


def verdict_realtime(summary: EvalSummary) -> Verdict:
    """Does it keep up with the dataset's frame rate?"""
    latency, realtime = summary.latency_ms, summary.realtime
    reason = (
        f"99 % of model calls take at most {format_number(latency.p99)} ms; a frame lasts "
        f"{format_number(realtime.period_ms)} ms. Measured on {summary.device}."
    )
    if realtime.keeps_up:
        return Verdict("good", f"Keeps up with {realtime.fps} fps", reason)
    return Verdict("bad", f"Too slow for {realtime.fps} fps", reason)


def verdict_held_out(summary: EvalSummary) -> Verdict:
    """Were the episodes new to the policy?"""
    count = f"{summary.num_episodes} episode{'s' * (summary.num_episodes != 1)}"
    if summary.held_out is True:
        start = summary.checkpoint.init_checkpoint
        doubt = f" It started from {start}, whose training data is not known here." if start else ""
        return Verdict(
            "good",
            "Judged on held-out episodes",
            f"Training never saw the {count} ({summary.num_frames} frames).{doubt}",
        )
    if summary.held_out is False:
        return Verdict(
            "bad",
            "Judged on training episodes",
            f"At least one of the {count} was trained on: the errors flatter the policy.",
        )
    return Verdict(
        "unsure",
        "Held out or not: unknown",
        f"The {count} come from another dataset than the one trained on.",
    )


def verdict_learning(val: list[dict[str, Any]]) -> Verdict | None:
    """Did training lower the held-out error? None without validation records of two steps."""
    if len(val) < 2:
        return None
    first, best = val[0], min(val, key=lambda record: record["val_mae"])
    fall = first["val_mae"] / max(best["val_mae"], 1e-12)
    reason = (
        f"Validation error over the chunk: {format_number(first['val_mae'])} at step {first['step']}, "
        f"{format_number(best['val_mae'])} at step {best['step']}, its lowest."
    )
    if fall > 1:
        return Verdict("good", f"{format_ratio(fall)}× lower error by training", reason)
    return Verdict("bad", "Training did not lower the error", reason)


def verdicts(results: Results) -> list[Verdict]:
    """All that can be said, in the order of the page."""
    summary = results.summary
    learning = verdict_learning(results.val)
    return [
        verdict_hold(summary),
        verdict_held_out(summary),
        verdict_realtime(summary),
        *([learning] if learning else []),
    ]


def lead_sentence(summary: EvalSummary) -> str:
    """The verdict in one sentence."""
    where = {
        True: "On episodes that training never saw",
        False: "On episodes that training has seen",
        "unknown": "On the evaluated episodes",
    }[summary.held_out]
    ratio = ratio_to_hold(summary)
    if ratio is None:
        skill = f"off by {format_number(summary.chunk_mae.overall)} on average"
    elif ratio > 1.05:
        skill = f"{format_ratio(ratio)} times closer to the demonstration than holding still"
    elif ratio < 0.95:
        skill = f"{format_ratio(1 / ratio)} times farther from the demonstration than holding still"
    else:
        skill = "no closer to the demonstration than holding still"
    good = ratio is None or ratio > 1.05
    fast = summary.realtime.keeps_up
    speed = f"{'keeps up' if fast else 'does not keep up'} with {summary.realtime.fps} fps"
    return f"{where}, the policy's action chunks are {skill}, {'and' if good == fast else 'but'} it {speed}."


def offset_verdict(summary: EvalSummary) -> str:
    """How the error grows along the chunk, and where the policy is better than holding still."""
    fps = summary.dataset.fps
    offsets, series = summary.chunk_mae.by_offset.reached()
    policy, last = series["policy"], offsets[-1]
    parts = [
        f"It is {format_number(policy[0])} at step {offsets[0]} and {format_number(policy[-1])} at step "
        f"{last} ({format_number(last / fps, 2)} s ahead)."
    ]
    doubled = next((k for k, value in zip(offsets, policy, strict=True) if value > 2 * policy[0]), None)
    if doubled:
        parts.append(f"It has doubled by step {doubled} ({format_number(doubled / fps, 2)} s).")
    if hold := series.get("hold_position"):
        wins = [k for k, p, h in zip(offsets, policy, hold, strict=True) if p < h]
        if len(wins) == len(offsets):
            parts.append("The policy is better than holding still at every step.")
        elif not wins:
            parts.append("The policy is at no step better than holding still.")
        elif wins == list(range(wins[0], last + 1)):
            parts.append(
                f"The policy is better than holding still from step {wins[0]} on; before, the joints have "
                "hardly moved and holding is hard to beat."
            )
        else:
            parts.append(f"The policy is better than holding still at {len(wins)} of {len(offsets)} steps.")
    missing = summary.chunk_mae.by_offset.offset[-1] - last
    if missing > 0:
        parts.append(f"The last {missing} steps of the chunk lie beyond every evaluated episode's end.")
    return " ".join(parts)
