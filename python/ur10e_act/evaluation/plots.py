"""The charts of the report: what is drawn of an evaluation and its training."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ur10e_act.evaluation.charts import Chart, format_number
from ur10e_act.evaluation.results import Results, ShownEpisode
from ur10e_act.evaluation.summary import EvalSummary

# CSS classes of lines.
LINE_CLASSES = {"policy": "policy", "hold_position": "hold", "mean_action": "mean"}


def axis_range(
    values: Iterable[float | None], low: float | None = None, log: bool = False
) -> tuple[float, float]:
    """Limits of an axis around the finite values; ``low`` fixes the lower one."""
    finite = np.array([value for value in values if value is not None and np.isfinite(value)], dtype=float)
    if log:
        finite = finite[finite > 0]
        return (float(finite.min()) * 0.8, float(finite.max()) * 1.25) if finite.size else (0.1, 1.0)
    if not finite.size:
        return 0.0, 1.0
    margin = float(finite.max() - finite.min()) * 0.06
    return (float(finite.min()) - margin if low is None else low), float(finite.max()) + margin


def _by_step(results: Results, values: list[float | None], y_label: str, label: str) -> Chart:
    """Axes for curves of a training: optimizer steps and, logarithmic, ``values``."""
    return Chart(
        500,
        300,
        (0, max(record["step"] for record in [*results.train, *results.val, {"step": 1}])),
        axis_range(values, log=True),
        log_y=True,
        x_ticks=6,
        x_label="optimizer step",
        y_label=y_label,
        label=label,
        margins=(24, 12, 44, 58),
    )


def loss_chart(results: Results) -> Chart:
    """Training and validation loss by step."""
    losses = [record["l1_loss"] for record in results.train]
    val_losses = [record["val_l1"] for record in results.val]
    chart = _by_step(
        results, [*losses, *val_losses], "L1 loss, normalized", "Training and validation loss by step"
    )
    val_steps = [record["step"] for record in results.val]
    chart.line([record["step"] for record in results.train], losses, "train")
    chart.line(val_steps, val_losses, "policy")
    chart.dots(val_steps, val_losses, "dot")
    return chart


def validation_chart(results: Results, level: float | None) -> Chart:
    """Validation error by step, and holding's error as a ``level`` where it is comparable."""
    summary, steps = results.summary, [record["step"] for record in results.val]
    errors = [record["val_mae"] for record in results.val]
    chart = _by_step(
        results, [*errors, level], f"MAE over the chunk ({summary.units})", "Validation error by step"
    )
    if level is not None:
        chart.level(level, "hold")
    chart.line(steps, errors, "policy")
    chart.dots(steps, errors, "dot")
    step = summary.checkpoint.step
    if step is not None and step <= chart.x_range[1]:
        chart.mark(step, "quantile", f"evaluated: step {step}")
    return chart


def offset_chart(summary: EvalSummary) -> Chart:
    """Error by how far into the chunk."""
    offsets, series = summary.chunk_mae.by_offset.reached()
    chart = Chart(
        1000,
        340,
        (min(1, offsets[0]) if len(offsets) > 1 else 0, offsets[-1]),
        axis_range([value for values in series.values() for value in values], low=0.0),
        x_ticks=12,
        y_ticks=6,
        x_label=f"step of the action chunk (1 step = {format_number(1e3 / summary.dataset.fps)} ms)",
        y_label=f"mean absolute error ({summary.units})",
        label="Error by offset in the action chunk",
        margins=(24, 12, 44, 58),
    )
    # The policy's line last, on top of the others.
    for name in reversed(series):
        chart.line(offsets, series[name], LINE_CLASSES[name])
    if len(offsets) <= 60:
        chart.dots(offsets, series["policy"], "dot", 2.2)
    steps = summary.settings.n_action_steps
    if summary.mode == "queue" and 1 < steps < offsets[-1]:
        chart.mark(steps, "quantile", f"the queue asks again after {steps}")
    return chart


def trajectory_charts(episode: ShownEpisode, joints: list[str]) -> list[Chart]:
    """Predicted and demonstrated action over time, a chart a joint."""
    rows = episode.rows
    seconds = rows.column("timestamp").to_numpy().tolist()
    charts = []
    for joint in joints:
        true = rows.column(f"gt_action_{joint}").to_numpy().tolist()
        predicted = rows.column(f"predicted_action_{joint}").to_numpy().tolist()
        mae = float(rows.column(f"abs_error_{joint}").to_numpy().mean(dtype=np.float64))
        chart = Chart(
            500,
            168,
            (seconds[0], seconds[-1]),
            axis_range([*true, *predicted]),
            title=joint,
            note=f"MAE {format_number(mae)}",
            y_ticks=4,
            x_ticks=6,
            margins=(24, 12, 24, 52),
            label=f"Episode {episode.errors.episode}, {joint}: predicted and demonstrated action",
        )
        chart.line(seconds, true, "true")
        chart.line(seconds, predicted, "policy")
        charts.append(chart)
    return charts


def distribution_chart(results: Results) -> tuple[Chart, float]:
    """Signed errors, one row a joint, on one axis; and the share of them that lies beyond its ends."""
    joints, row = results.summary.joints, 46
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
        x_label=f"predicted − demonstrated ({results.summary.units})",
    )
    for text, x in (("bias", 68), ("p95 of |error|", 160), ("largest", 235)):
        chart.text(chart.right + x, 18, text, "tick end")
    chart.mark(0, "zero")
    # An odd number of bins puts one around zero.
    frames = results.summary.num_frames
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
            chart.text(chart.right + x, base - 6, format_number(value).replace("-", "−"), "note end")
    return chart, beyond / sum(len(errors.signed) for errors in results.errors.values())


def latency_chart(summary: EvalSummary) -> Chart:
    """How long a full call of the model takes."""
    latency, realtime = summary.latency_ms, summary.realtime
    samples = np.array(latency.samples)
    end = max(float(samples.max()), realtime.period_ms) * 1.08
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
    chart.mark(latency.p99, "quantile", f"p99 {format_number(latency.p99)} ms")
    chart.mark(
        realtime.period_ms,
        "limit",
        f"one frame at {realtime.fps} fps: {format_number(realtime.period_ms)} ms",
        row=1,
    )
    return chart
