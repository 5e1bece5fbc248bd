"""Turns the output of offline_eval.py, and of train.py where given, into one self-contained HTML page.

The page needs no network and no script, follows the reader's light or dark setting, and is the same, byte for
byte, for the same input. The table of figures is printed, too.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from ur10e_act.atomic_io import write_file
from ur10e_act.errors import UserError, run_cli
from ur10e_act.evaluation.charts import Chart, number
from ur10e_act.policy.metrics_file import METRICS_FILE, read_metrics

SUMMARY = "summary.json"
ALL_EPISODES = "all_episodes.parquet"

STYLE = """
:root { color-scheme: light dark;
  --page: #f7f7f5; --panel: #ffffff; --ink: #1d2126; --muted: #5d646d; --rule: #e2e3e5; --shade: #f1f2f3;
  --policy: #0969c8; --hold: #c4560a; --mean: #7d5fb2; --train: #8b949e; --good: #14794a; --bad: #bd2c22;
  --unsure: #8a6300; }
@media (prefers-color-scheme: dark) { :root {
  --page: #121417; --panel: #1a1d21; --ink: #e6e8eb; --muted: #9ba3ad; --rule: #30353b; --shade: #23272c;
  --policy: #64aefc; --hold: #f0a05a; --mean: #b9a2e8; --train: #7c858f; --good: #5bc98f; --bad: #ff8b80;
  --unsure: #e3b341; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); line-height: 1.5;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 40px 24px 64px; }
h1 { font-size: 30px; line-height: 1.2; margin: 0 0 4px; letter-spacing: -0.01em; }
h2 { font-size: 20px; margin: 48px 0 10px; letter-spacing: -0.005em; }
h3 { font-size: 15px; margin: 22px 0 6px; font-weight: 600; }
p { margin: 0 0 12px; max-width: 76ch; }
.sub, figcaption, .foot, h2 + p { color: var(--muted); } h2 + p { font-size: 14.5px; max-width: 100ch; }
.sub { margin-bottom: 20px; }
.lead { font-size: 19px; line-height: 1.45; margin-bottom: 20px; }
.banner { border: 1px solid var(--unsure); color: var(--unsure); border-radius: 8px; padding: 10px 14px; }
.cards { display: grid; grid-template-columns: repeat(auto-fit, minmax(225px, 1fr)); gap: 12px; }
.card { background: var(--panel); border: 1px solid var(--rule); border-left-width: 4px; border-radius: 8px;
  padding: 14px 16px; }
.card b { display: block; font-size: 17px; line-height: 1.3; margin-bottom: 4px; }
.card span { color: var(--muted); font-size: 14px; line-height: 1.4; display: block; }
.card.good { border-left-color: var(--good); } .card.good b { color: var(--good); }
.card.bad { border-left-color: var(--bad); } .card.bad b { color: var(--bad); }
.card.unsure { border-left-color: var(--unsure); } .card.unsure b { color: var(--unsure); }
figure { background: var(--panel); border: 1px solid var(--rule); border-radius: 8px; margin: 0 0 14px;
  padding: 16px 18px 14px; }
figcaption { font-size: 14px; margin-top: 10px; max-width: 100ch; }
.pair, .panels { display: grid; gap: 14px;
  grid-template-columns: repeat(auto-fit, minmax(min(440px, 100%), 1fr)); }
.pair figure { margin: 0; } .pair { margin-bottom: 14px; }
.panels { gap: 4px 20px; }
.keys { display: flex; flex-wrap: wrap; gap: 4px 20px; font-size: 14px; margin-bottom: 8px; }
.keys svg { width: 28px; height: 10px; vertical-align: 1px; margin-right: 7px; }
svg { display: block; width: 100%; height: auto; } .keys svg { display: inline; }
svg text { fill: var(--muted);
  font: 12px system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif;
  font-variant-numeric: tabular-nums; }
svg .title { fill: var(--ink); font-weight: 600; font-size: 13px; } svg .note { fill: var(--ink); }
svg .name { font-size: 12.5px; } svg .middle { text-anchor: middle; } svg .end { text-anchor: end; }
.grid, .axis { stroke: var(--rule); fill: none; } .axis { stroke: var(--muted); }
.line { fill: none; stroke-width: 1.8; stroke-linejoin: round; stroke-linecap: round; }
.policy { stroke: var(--policy); } .hold { stroke: var(--hold); stroke-dasharray: 7 4; }
.mean { stroke: var(--mean); stroke-dasharray: 2 4; } .train { stroke: var(--train); stroke-width: 1.3; }
.true { stroke: var(--ink); stroke-width: 4.5; opacity: 0.25; }
.zero { stroke: var(--muted); stroke-width: 1; }
.limit { stroke: var(--bad); stroke-width: 1.6; }
.quantile { stroke: var(--ink); stroke-width: 1.2; stroke-dasharray: 3 3; }
.dot { fill: var(--policy); } .area { fill: var(--policy); opacity: 0.75; }
.scroll { overflow-x: auto; } .scroll > svg { min-width: 720px; }
table { border-collapse: collapse; font-size: 14.5px; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: 6px 12px; text-align: right; border-bottom: 1px solid var(--rule); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } thead th { font-weight: 600; color: var(--muted); }
thead tr:first-child th { border-bottom: 0; padding-bottom: 0; color: var(--ink); }
th.group { text-align: left; }
tbody tr:last-child td { border-bottom: 0; font-weight: 600; background: var(--shade); }
td.good { color: var(--good); } td.bad { color: var(--bad); } .start { border-left: 1px solid var(--rule); }
.facts td, .facts tbody tr:last-child td { text-align: left; white-space: normal; overflow-wrap: anywhere;
  font-weight: 400; background: none; vertical-align: top; }
.facts td:first-child { color: var(--muted); width: 215px; }
code, pre { font: 13px ui-monospace, SFMono-Regular, Menlo, "DejaVu Sans Mono", monospace; }
details { margin-top: 10px; } summary { cursor: pointer; color: var(--muted); font-size: 14px; }
pre { background: var(--shade); padding: 12px 14px; border-radius: 6px; overflow-x: auto; }
@media print { body { background: #fff; } figure, .card { break-inside: avoid; } }
"""

POLICY_KEY = ("policy", "policy")
HOLD_KEY = ("hold", "holding the joint position")
MEAN_KEY = ("mean", "mean action")
TRUE_KEY = ("true", "demonstration")


@dataclass(frozen=True)
class Errors:
    """The executed action's signed error (predicted - true) of one joint, in dataset units."""

    signed: np.ndarray  # (frames,) float32

    def quantile(self, percent: float) -> float:
        """Percentile of the absolute error."""
        return float(np.percentile(np.abs(self.signed), percent))


@dataclass(frozen=True)
class Results:
    """What the page is made of."""

    summary: dict[str, Any]
    errors: dict[str, Errors]  # by joint
    episodes: list[
        tuple[str, dict[str, Any], pa.Table]
    ]  # (why it is shown, its entry in the summary, its rows)
    train: list[dict[str, Any]]  # train records of metrics.jsonl, by step
    val: list[dict[str, Any]]


def read_results(eval_dir: Path, train_dir: Path | None) -> Results:
    """Read the outputs. Raises UserError for a missing, incomplete or foreign folder."""
    path = eval_dir / SUMMARY
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"{path}: not found; is {eval_dir} the output of a finished offline_eval.py?"
        ) from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}); run offline_eval.py again") from None
    try:
        errors = {
            joint: Errors(
                np.subtract(
                    *read_columns(eval_dir / ALL_EPISODES, f"predicted_action_{joint}", f"gt_action_{joint}")
                )
            )
            for joint in summary["joints"]
        }
        episodes = [
            (why, entry, pq.ParquetFile(eval_dir / f"episode_{entry['episode']:03d}.parquet").read())
            for why, entry in choose_episodes(summary["per_episode"])
        ]
    except KeyError as error:
        raise UserError(f"{path}: has no {error}; run offline_eval.py again") from None
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{eval_dir}: {' '.join(str(error).split())}; run offline_eval.py again") from None
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
    """Records of metrics.jsonl by step; of a step logged twice (a resumed run), the later one."""
    path = train_dir / METRICS_FILE
    try:
        records = read_metrics(path)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path}: cannot be read ({getattr(error, 'strerror', None) or error}); "
            "leave out --train for a report on the evaluation alone"
        ) from None
    latest = {(record["type"], record["step"]): record for record in records}
    return sorted(latest.values(), key=lambda record: record["step"])


def choose_episodes(entries: Sequence[dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    """Up to three episodes to draw: the best, the one of median error, the worst."""
    ranked = sorted(entries, key=lambda entry: (entry["mae"], entry["episode"]))
    if len(ranked) == 1:
        return [("the only one", ranked[0])]
    if len(ranked) == 2:
        return [("the lower error", ranked[0]), ("the higher error", ranked[1])]
    return [
        ("median error", ranked[(len(ranked) - 1) // 2]),
        ("highest error", ranked[-1]),
        ("lowest error", ranked[0]),
    ]


def times(value: float) -> str:
    """A ratio, for reading."""
    return f"{value:.1f}" if value < 10 else f"{value:.0f}"


def ratio_to_hold(summary: dict[str, Any]) -> float | None:
    """Holding's chunk error over the policy's; above 1 the policy is better."""
    hold = summary["chunk_mae"]["baselines"]["hold_position"]["overall"]
    return None if hold is None else hold / max(summary["chunk_mae"]["overall"], 1e-12)


def verdict_hold(results: Results) -> tuple[str, str, str]:
    """(tone, headline, reason): is the policy better than not moving?"""
    chunk = results.summary["chunk_mae"]
    ratio = ratio_to_hold(results.summary)
    if ratio is None:
        return (
            "unsure",
            "Holding still: cannot be said",
            "Not every action has a state of the same name to hold.",
        )
    hold = chunk["baselines"]["hold_position"]
    joints = results.summary["joints"]
    better = sum(chunk["per_joint"][joint] < hold["per_joint"][joint] for joint in joints)
    reason = (
        f"Mean error over the action chunk: {number(chunk['overall'])}; holding the joint position: "
        f"{number(hold['overall'])}. Better on {better} of {len(joints)} joints."
    )
    first, hold_first = chunk["by_offset"]["policy"][0], chunk["by_offset"]["hold_position"][0]
    if ratio > 1.05 and first > hold_first:
        reason += (
            f" On the first step alone, holding is better: {number(hold_first)} against {number(first)}."
        )
    if ratio > 1.05:
        return "good", f"{times(ratio)}× better than holding still", reason
    if ratio < 0.95:
        return "bad", f"{times(1 / ratio)}× worse than holding still", reason
    return "bad", "No better than holding still", reason


def verdict_realtime(results: Results) -> tuple[str, str, str]:
    """(tone, headline, reason): does it keep up with the dataset's frame rate?"""
    latency, realtime = results.summary["latency_ms"], results.summary["realtime"]
    reason = (
        f"99 % of model calls take at most {number(latency['p99'])} ms; a frame lasts "
        f"{number(realtime['period_ms'])} ms. Measured on {results.summary['device']}."
    )
    if realtime["keeps_up"]:
        return "good", f"Keeps up with {realtime['fps']} fps", reason
    return "bad", f"Too slow for {realtime['fps']} fps", reason


def verdict_held_out(results: Results) -> tuple[str, str, str]:
    """(tone, headline, reason): were the episodes new to the policy?"""
    summary = results.summary
    count = f"{summary['num_episodes']} episode{'s' * (summary['num_episodes'] != 1)}"
    if summary["held_out"] is True:
        start = summary["checkpoint"]["init_checkpoint"]
        doubt = f" It started from {start}, whose training data is not known here." if start else ""
        return (
            "good",
            "Judged on held-out episodes",
            f"Training never saw the {count} ({summary['num_frames']} frames).{doubt}",
        )
    if summary["held_out"] is False:
        return (
            "bad",
            "Judged on training episodes",
            f"At least one of the {count} was trained on: the errors flatter the policy.",
        )
    return (
        "unsure",
        "Held out or not: unknown",
        f"The {count} come from another dataset than the one trained on.",
    )


def verdict_learning(results: Results) -> tuple[str, str, str] | None:
    """(tone, headline, reason): did training lower the held-out error? None without validation records."""
    if len(results.val) < 2:
        return None
    first, best = results.val[0], min(results.val, key=lambda record: record["val_mae"])
    fall = first["val_mae"] / max(best["val_mae"], 1e-12)
    reason = (
        f"Validation error over the chunk: {number(first['val_mae'])} at step {first['step']}, "
        f"{number(best['val_mae'])} at step {best['step']}, its lowest."
    )
    if fall > 1:
        return "good", f"{times(fall)}× lower error by training", reason
    return "bad", "Training did not lower the error", reason


def lead_sentence(results: Results) -> str:
    """The verdict in one sentence."""
    summary = results.summary
    where = {
        True: "On episodes that training never saw",
        False: "On episodes that training has seen",
    }.get(summary["held_out"], "On the evaluated episodes")
    ratio = ratio_to_hold(summary)
    if ratio is None:
        skill = f"off by {number(summary['chunk_mae']['overall'])} on average"
    elif ratio > 1.05:
        skill = f"{times(ratio)} times closer to the demonstration than holding still"
    elif ratio < 0.95:
        skill = f"{times(1 / ratio)} times farther from the demonstration than holding still"
    else:
        skill = "no closer to the demonstration than holding still"
    good = ratio is None or ratio > 1.05
    fast = summary["realtime"]["keeps_up"]
    speed = f"{'keeps up' if fast else 'does not keep up'} with {summary['realtime']['fps']} fps"
    return f"{where}, the policy's action chunks are {skill}, {'and' if good == fast else 'but'} it {speed}."


def keys(*entries: tuple[str, str]) -> str:
    """A legend: (CSS class of the line, its name)."""
    spans = [
        '<span><svg viewBox="0 0 28 10" aria-hidden="true">'
        f'<path class="line {css}" d="M1 5L27 5"/></svg>{escape(name)}</span>'
        for css, name in entries
    ]
    return f'<div class="keys">{"".join(spans)}</div>'


def wide(chart: Chart) -> str:
    """A chart that scrolls sideways on a narrow screen rather than becoming illegible."""
    return f'<div class="scroll">{chart.svg()}</div>'


def figure(body: str, caption: str) -> str:
    """A framed figure; ``caption`` is plain text."""
    return f"<figure>{body}<figcaption>{escape(caption)}</figcaption></figure>"


def limits(
    values: Sequence[float | None], low: float | None = None, log: bool = False
) -> tuple[float, float]:
    """An axis range around the finite values."""
    finite = np.array([value for value in values if value is not None and np.isfinite(value)], dtype=float)
    if log:
        finite = finite[finite > 0]
        return (float(finite.min()) * 0.8, float(finite.max()) * 1.25) if finite.size else (0.1, 1.0)
    if not finite.size:
        return 0.0, 1.0
    margin = (finite.max() - finite.min()) * 0.06
    return (finite.min() - margin if low is None else low), finite.max() + margin


def training_section(results: Results) -> str:
    """Loss curves; empty without metrics."""
    if not results.train and not results.val:
        return ""
    train_steps = [record["step"] for record in results.train]
    val_steps = [record["step"] for record in results.val]
    steps = (0, max([*train_steps, *val_steps, 1]))
    losses = [record["l1_loss"] for record in results.train]
    val_losses = [record["val_l1"] for record in results.val]
    chart = Chart(
        500,
        300,
        steps,
        limits([*losses, *val_losses], log=True),
        log_y=True,
        x_ticks=6,
        x_label="optimizer step",
        y_label="L1 loss, normalized",
        label="Training and validation loss by step",
        margins=(24, 12, 44, 58),
    )
    chart.line(train_steps, losses, "train")
    chart.line(val_steps, val_losses, "policy")
    chart.dots(val_steps, val_losses, "dot")
    left = figure(
        keys(("train", "training"), ("policy", "validation (held-out)")) + chart.svg(),
        "L1 between predicted and demonstrated action chunks, in units of the normalized action, on a "
        "logarithmic axis. Training runs with dropout and the VAE's latent, and counts padded steps as zero "
        "(LeRobot's loss); validation runs as the robot would and counts real steps only. Read the trend of "
        "each, not their distance.",
    )
    errors = [record["val_mae"] for record in results.val]
    if not errors:
        return f"<h2>Training</h2>{left}"
    summary = results.summary
    hold = summary["chunk_mae"]["baselines"]["hold_position"]["overall"]
    # Only on the validation's own episodes is the trivial policy's error comparable.
    level = hold if summary["held_out"] is True and hold else None
    chart = Chart(
        500,
        300,
        steps,
        limits([*errors, level], log=True),
        log_y=True,
        x_ticks=6,
        x_label="optimizer step",
        y_label=f"MAE over the chunk ({summary['units']})",
        label="Validation error by step",
        margins=(24, 12, 44, 58),
    )
    if level:
        chart.level(level, "hold")
    chart.line(val_steps, errors, "policy")
    chart.dots(val_steps, errors, "dot")
    step = summary["checkpoint"]["step"]
    if step is not None and step <= steps[1]:
        chart.mark(step, "quantile", f"evaluated: step {step}")
    right = figure(
        keys(POLICY_KEY, *([HOLD_KEY] if level else [])) + chart.svg(),
        f"Mean absolute error on the held-out episodes, in {summary['units']}, over all steps of the chunk"
        + (", against holding the joint position on the evaluated frames." if level else "."),
    )
    return f'<h2>Training</h2><div class="pair">{left}{right}</div>'


def offset_section(results: Results) -> str:
    """Error by how far into the chunk."""
    summary = results.summary
    by_offset, fps = summary["chunk_mae"]["by_offset"], summary["dataset"]["fps"]
    reached = [i for i, frames in enumerate(by_offset["frames"]) if frames]
    offsets = [by_offset["offset"][i] for i in reached]
    series = {
        name: [by_offset[name][i] for i in reached] for name in ("policy", "hold_position", "mean_action")
    }
    shown = [
        (key, series[name])
        for key, name in ((POLICY_KEY, "policy"), (HOLD_KEY, "hold_position"), (MEAN_KEY, "mean_action"))
        if series[name][0] is not None
    ]
    top = limits([value for _, values in shown for value in values], low=0.0)
    chart = Chart(
        1000,
        340,
        (min(1, offsets[0]) if len(offsets) > 1 else 0, offsets[-1]),
        top,
        x_ticks=12,
        y_ticks=6,
        x_label=f"step of the action chunk (1 step = {number(1e3 / fps)} ms)",
        y_label=f"mean absolute error ({summary['units']})",
        label="Error by offset in the action chunk",
        margins=(24, 12, 44, 58),
    )
    for (css, _), values in reversed(shown):
        chart.line(offsets, values, css)
    if len(offsets) <= 60:
        chart.dots(offsets, series["policy"], "dot", 2.2)
    if summary["mode"] == "queue" and 1 < summary["settings"]["n_action_steps"] < offsets[-1]:
        steps = summary["settings"]["n_action_steps"]
        chart.mark(steps, "quantile", f"the queue asks anew after {steps}")
    return "<h2>How long a chunk can be trusted</h2>" + figure(
        keys(*(key for key, _ in shown)) + wide(chart), offset_caption(offsets, series, fps, summary)
    )


def offset_caption(
    offsets: Sequence[int], series: dict[str, list[float | None]], fps: int, summary: dict[str, Any]
) -> str:
    """What the chart by offset shows, in words."""
    policy, hold = series["policy"], series["hold_position"]
    parts = [
        "Error of the k-th action of a chunk, over all evaluated frames; steps past an episode's end do "
        f"not count. It is {number(policy[0])} at step {offsets[0]} and {number(policy[-1])} at step "
        f"{offsets[-1]} ({number(offsets[-1] / fps, 2)} s ahead)."
    ]
    doubled = next(
        (offset for offset, value in zip(offsets, policy, strict=True) if value > 2 * policy[0]), None
    )
    if doubled:
        parts.append(f"It has doubled by step {doubled} ({number(doubled / fps, 2)} s).")
    if hold[0] is not None:
        wins = [offset for offset, p, h in zip(offsets, policy, hold, strict=True) if p < h]
        if len(wins) == len(offsets):
            parts.append("The policy is better than holding still at every step.")
        elif not wins:
            parts.append("The policy is at no step better than holding still.")
        elif wins == list(range(wins[0], offsets[-1] + 1)):
            parts.append(
                f"The policy is better than holding still from step {wins[0]} on; before, the joints have "
                "hardly moved and holding is hard to beat."
            )
        else:
            parts.append(f"The policy is better than holding still at {len(wins)} of {len(offsets)} steps.")
    missing = summary["chunk_mae"]["by_offset"]["offset"][-1] - offsets[-1]
    if missing > 0:
        parts.append(f"The last {missing} steps of the chunk lie beyond every evaluated episode's end.")
    return " ".join(parts)


def trajectory_section(results: Results) -> str:
    """Predicted and demonstrated actions over time."""
    summary = results.summary
    taken = {
        "batched": "the first action of the chunk predicted at that frame",
        "queue": f"the action executed with {summary['settings']['n_action_steps']} actions per model call",
        "ensemble": "the action executed with temporal ensembling",
    }[summary["mode"]]
    body = []
    for i, (why, entry, table) in enumerate(results.episodes):
        seconds = table.column("timestamp").to_numpy()
        panels = []
        for joint in summary["joints"]:
            true = table.column(f"gt_action_{joint}").to_numpy()
            predicted = table.column(f"predicted_action_{joint}").to_numpy()
            mae = float(table.column(f"abs_error_{joint}").to_numpy().mean(dtype=np.float64))
            chart = Chart(
                500,
                168,
                (float(seconds[0]), float(seconds[-1])),
                limits([*true.tolist(), *predicted.tolist()]),
                title=joint,
                note=f"MAE {number(mae)}",
                y_ticks=4,
                x_ticks=6,
                margins=(24, 12, 24, 52),
                label=f"Episode {entry['episode']}, {joint}: predicted and demonstrated action",
            )
            chart.line(seconds.tolist(), true.tolist(), "true")
            chart.line(seconds.tolist(), predicted.tolist(), "policy")
            panels.append(chart.svg())
        heading = f"Episode {entry['episode']}: {why} (MAE {number(entry['mae'])}, {entry['frames']} frames)"
        content = keys(TRUE_KEY, POLICY_KEY) + f'<div class="panels">{"".join(panels)}</div>'
        frame = f"<figure>{content}</figure>"
        if i < 2:
            body.append(f"<h3>{escape(heading)}</h3>{frame}")
        else:
            body.append(f"<details><summary>{escape(heading)}</summary>{frame}</details>")
    intro = (
        f"Action by time in the episode (s), in {summary['units']}; each joint has its own axis. The "
        f"policy's line is {taken}, always from the recorded observation: errors do not add up as they "
        "may on a robot."
    )
    return f"<h2>Predicted and demonstrated actions</h2><p>{escape(intro)}</p>{''.join(body)}"


def distribution_section(results: Results) -> str:
    """Signed errors, one row a joint, on one axis."""
    joints, row = results.summary["joints"], 46
    reach = max(max(errors.quantile(99) for errors in results.errors.values()), 1e-9)
    chart = Chart(
        1000,
        40 + row * len(joints) + 44,
        (-reach, reach),
        (0, 1),
        y_axis=False,
        x_ticks=9,
        margins=(34, 250, 44, 150),
        label="Distribution of the error per joint",
        x_label=f"predicted − demonstrated ({results.summary['units']})",
    )
    for text, x in (("bias", 68), ("p95 of |error|", 160), ("largest", 235)):
        chart.text(chart.right + x, 18, text, "tick end")
    chart.mark(0, "zero")
    # An odd number of bins puts one around zero.
    frames = results.summary["num_frames"]
    edges = np.linspace(-reach, reach, 2 * int(np.clip(np.sqrt(frames), 12, 40)) + 2)
    beyond = 0
    for j, joint in enumerate(joints):
        errors = results.errors[joint]
        beyond += int((np.abs(errors.signed) > reach).sum())
        heights = np.histogram(errors.signed.clip(-reach, reach), edges)[0]
        base = chart.top + row * (j + 1)
        chart.outline(edges.tolist(), heights.tolist(), base, row * 0.84, "area")
        chart.text(chart.left - 10, base - 6, joint if len(joint) <= 20 else joint[:19] + "…", "note end")
        for value, x in (
            (float(errors.signed.mean(dtype=np.float64)), 68),
            (errors.quantile(95), 160),
            (errors.quantile(100), 235),
        ):
            chart.text(chart.right + x, base - 6, number(value).replace("-", "−"), "note end")
    share = beyond / sum(len(errors.signed) for errors in results.errors.values())
    return "<h2>Error per joint</h2>" + figure(
        wide(chart),
        "Distribution of the executed action's signed error over all evaluated frames. Every row is scaled "
        "to its own peak; the axis is shared by all joints, whatever their unit. A row that leans to one "
        "side is a bias. The axis ends at the 99th percentile of the joint with the largest errors; "
        f"{number(100 * share, 2)} % of the errors lie beyond and are counted in the outermost bins.",
    )


def latency_section(results: Results) -> str:
    """How long a full call of the model takes."""
    latency, realtime = results.summary["latency_ms"], results.summary["realtime"]
    samples = np.array(latency["samples"])
    end = max(float(samples.max()), realtime["period_ms"]) * 1.08
    width = max((samples.max() - samples.min()) / 24, end / 160)
    low = np.floor(samples.min() / width) * width
    edges = low + width * np.arange(int(np.ceil((samples.max() - low) / width)) + 1 + 1e-9)
    counts, edges = np.histogram(samples, np.append(edges, edges[-1] + width))
    chart = Chart(
        1000,
        260,
        (0, end),
        (0, max(int(counts.max()), 1) * 1.1),
        x_label="time of one model call (ms)",
        y_label="calls",
        label="Histogram of the latency",
        x_ticks=10,
        y_ticks=4,
        y_whole=True,
        margins=(44, 12, 44, 58),
    )
    chart.bars(edges.tolist(), counts.tolist(), "area")
    chart.mark(latency["p99"], "quantile", f"p99 {number(latency['p99'])} ms")
    chart.mark(
        realtime["period_ms"],
        "limit",
        f"one frame at {realtime['fps']} fps: {number(realtime['period_ms'])} ms",
        row=1,
    )
    over = realtime["calls_over_period"]
    return "<h2>Latency</h2>" + figure(
        wide(chart),
        f"{len(samples)} full calls at batch 1 on {results.summary['device']}, from the camera images in "
        f"memory to the action; warm-up calls are left out. Mean {number(latency['mean'])} ms, median "
        f"{number(latency['p50'])} ms, p95 "
        f"{number(latency['p95'])} ms, p99 {number(latency['p99'])} ms, largest {number(latency['max'])} ms; "
        f"{over or 'no'} call{'s' * (over > 1)} took longer than a frame. "
        f"Judged by the {realtime['judged_by']}.",
    )


COLUMNS = ("policy", "hold", "mean", "p95", "policy", "hold", "mean", "gain")


def figure_rows(results: Results) -> list[tuple[str, list[float | None]]]:
    """The table of figures by joint and, last, over all joints: a name and a figure a column."""
    mae, chunk = results.summary["mae"], results.summary["chunk_mae"]
    rows = []
    for joint in [*results.summary["joints"], None]:

        def pick(figures: dict[str, Any], joint: str | None = joint) -> float | None:
            return figures["overall"] if joint is None else figures["per_joint"][joint]

        hold, trained = pick(chunk["baselines"]["hold_position"]), pick(chunk)
        errors = list(results.errors.values()) if joint is None else [results.errors[joint]]
        cells = [
            pick(mae),
            pick(mae["baselines"]["hold_position"]),
            pick(mae["baselines"]["mean_action"]),
            Errors(np.concatenate([entry.signed for entry in errors])).quantile(95),
            trained,
            hold,
            pick(chunk["baselines"]["mean_action"]),
            None if hold is None else hold / max(trained, 1e-12),
        ]
        rows.append(("all joints" if joint is None else joint, cells))
    return rows


def cell_texts(cells: Sequence[float | None]) -> list[str]:
    """A row's figures as text; the last is a ratio."""
    *figures, gain = cells
    return [*map(number, figures), "–" if gain is None else f"{number(gain, 2)}×"]


def figures_section(results: Results) -> str:
    """The table of figures."""
    body = []
    for name, cells in figure_rows(results):
        gain = cells[-1]
        tone = "" if gain is None else "good" if gain > 1 else "bad"
        classes = ["start", "", "", "", "start", "", "", tone]
        texts = "".join(
            f'<td class="{css}">{text}</td>' for css, text in zip(classes, cell_texts(cells), strict=True)
        )
        body.append(f"<tr><td>{escape(name)}</td>{texts}</tr>")
    head = "".join(f"<th{' class=start' * (i in (0, 4))}>{name}</th>" for i, name in enumerate(COLUMNS))
    definitions = results.summary["baseline_definitions"]
    table = (
        '<div class="scroll"><table><thead><tr><th></th>'
        '<th class="group start" colspan="4">Executed action</th>'
        '<th class="group start" colspan="4">Whole chunk</th></tr>'
        f"<tr><th>MAE in {escape(results.summary['units'])}</th>{head}</tr></thead>"
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )
    return "<h2>Figures</h2>" + figure(
        table,
        "Mean absolute error (MAE) on the same frames for the policy and for two trivial ones. hold acts as "
        f"if the joints were to stay ({definitions['hold_position']}); mean always gives "
        f"{definitions['mean_action']}. p95 is the 95th percentile of the policy's absolute error; gain "
        "tells how many times lower its error over the chunk is than holding's. Over a single step joints "
        "hardly move and holding is strong; the chunk is the fairer test. All joints: the mean over joints.",
    )


def provenance_section(results: Results, train_dir: Path | None) -> str:
    """Where everything comes from."""
    summary = results.summary
    checkpoint, dataset, settings = summary["checkpoint"], summary["dataset"], summary["settings"]
    episodes = ", ".join(map(str, summary["episodes"][:60])) + (
        ", …" if len(summary["episodes"]) > 60 else ""
    )
    steps = "to the end" if settings["num_steps"] is None else f"{settings['num_steps']} frames each"
    mode = {
        "batched": f"batched: a chunk at every frame, {settings['batch_size']} frames per call",
        "queue": f"queue of {settings['n_action_steps']} actions per model call",
        "ensemble": f"temporal ensembling, coefficient {settings['temporal_ensemble_coeff']}",
    }[summary["mode"]]
    facts = [
        ("Evaluated", f"{summary['created'].replace('T', ' ').replace('+00:00', ' UTC')}"),
        ("Checkpoint", checkpoint["path"]),
        ("Checkpoint fingerprint", checkpoint["fingerprint"]),
        ("Optimizer step", "unknown" if checkpoint["step"] is None else str(checkpoint["step"])),
        ("Dataset", ", ".join(dataset["roots"])),
        ("Dataset fingerprint", dataset["fingerprint"]),
        ("Robot", f"{dataset['robot_type']}, {len(summary['joints'])} joints, {dataset['fps']} fps"),
        ("Cameras", "; ".join(f"{name} {h}×{w} px" for name, (h, w) in dataset["cameras"].items())),
        ("Trained on this dataset", {True: "yes", False: "no"}.get(dataset["trained_on"], "unknown")),
        (
            "Episodes",
            f"{episodes} (from frame {settings['start_frame']}, {steps}; {summary['num_frames']} frames)",
        ),
        ("Mode", mode),
        ("Images", "blacked out" if summary["blackout_images"] else "as recorded"),
        ("Device", summary["device"]),
        ("Software", ", ".join(f"{name} {text}" for name, text in summary["versions"].items())),
    ]
    if results.train:
        last = results.train[-1]
        speeds = [record["samples_per_s"] for record in results.train if "samples_per_s" in record]
        speed = f", median {number(float(np.median(speeds)))} samples/s" if speeds else ""
        facts.append(("Training", f"{train_dir}: logged to step {last['step']}{speed}"))
    rows = "".join(f"<tr><td>{escape(name)}</td><td>{escape(str(text))}</td></tr>" for name, text in facts)
    config = ""
    if checkpoint["train_config"]:
        text = yaml.safe_dump(checkpoint["train_config"], sort_keys=False)
        config = f"<details><summary>Training configuration</summary><pre>{escape(text)}</pre></details>"
    return f'<h2>Provenance</h2><figure><table class="facts"><tbody>{rows}</tbody></table>{config}</figure>'


def page(results: Results, train_dir: Path | None) -> str:
    """The whole page."""
    summary = results.summary
    cards = [
        verdict_hold(results),
        verdict_held_out(results),
        verdict_realtime(results),
        verdict_learning(results),
    ]
    body = "".join(
        f'<div class="card {tone}"><b>{escape(headline)}</b><span>{escape(reason)}</span></div>'
        for tone, headline, reason in filter(None, cards)
    )
    step = summary["checkpoint"]["step"]
    title = f"ACT policy on {summary['dataset']['robot_type'].replace('unknown', 'a robot')}"
    sub = (
        f"Offline evaluation{'' if step is None else f' of step {step}'} on {summary['num_episodes']} "
        f"recorded episode{'s' * (summary['num_episodes'] != 1)}, {summary['num_frames']} frames, "
        f"{summary['created'][:10]}"
    )
    banner = (
        '<p class="banner">Ablation: every camera image was blacked out. '
        "The errors are those of a policy that cannot see.</p>"
        if summary["blackout_images"]
        else ""
    )
    sections = [
        figures_section(results),
        offset_section(results),
        trajectory_section(results),
        distribution_section(results),
        training_section(results),
        latency_section(results),
        provenance_section(results, train_dir),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}: offline evaluation</title><style>{STYLE}</style></head>\n<body><main>"
        f'<h1>{escape(title)}</h1><p class="sub">{escape(sub)}</p>{banner}'
        f'<p class="lead">{escape(lead_sentence(results))}</p><div class="cards">{body}</div>\n'
        + "\n".join(section for section in sections if section)
        + '\n<p class="foot">Offline error tells how closely the policy copies recorded actions from '
        "recorded observations. Whether it completes the task, only the robot tells.</p>"
        "</main></body></html>\n"
    )


def text_table(results: Results) -> str:
    """The figures for a terminal."""
    rows = [["", *COLUMNS], *([name, *cell_texts(cells)] for name, cells in figure_rows(results))]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append(f"{row[0]:<{widths[0]}}  {'  '.join(cells[:4])}  |  {'  '.join(cells[4:])}".rstrip())
    first = widths[0] + 2
    groups = f"{'MAE':<{first}}{'executed action':<{sum(widths[1:5]) + 6}}  |  whole chunk"
    verdicts = [verdict_hold, verdict_held_out, verdict_realtime, verdict_learning]
    notes = [
        f"{headline}. {reason}"
        for _, headline, reason in filter(None, (verdict(results) for verdict in verdicts))
    ]
    return "\n".join([groups, *lines, "", *notes])


def run(argv: Sequence[str] | None = None) -> int:
    """The command: read, write the page, print the figures and the page's path."""
    parser = argparse.ArgumentParser(description="Make one HTML page of an evaluation and its training.")
    parser.add_argument("--eval", type=Path, required=True, help="output folder of offline_eval.py")
    parser.add_argument("--train", type=Path, help="output folder of train.py; without it, no loss curves")
    parser.add_argument("--output", type=Path, required=True, help="the page, e.g. outputs/report.html")
    args = parser.parse_args(argv)
    results = read_results(args.eval, args.train)
    try:
        html = page(results, args.train)
        table = text_table(results)
    except KeyError as error:
        raise UserError(f"{args.eval / SUMMARY}: has no {error}; run offline_eval.py again") from None
    try:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        write_file(args.output, html.encode())
    except OSError as error:
        raise UserError(f"--output {args.output}: cannot be written ({error.strerror})") from None
    print(table)
    print(f"report: {args.output.resolve()}")
    return 0


if __name__ == "__main__":
    run_cli(run)
