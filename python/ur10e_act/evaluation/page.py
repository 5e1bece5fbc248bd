"""The report's page: fills report.html.j2 with the results."""

from __future__ import annotations

from pathlib import Path

import jinja2
import numpy as np
import yaml

from ur10e_act.evaluation.charts import format_number
from ur10e_act.evaluation.figure_table import COLUMNS, cell_texts, figure_rows
from ur10e_act.evaluation.plots import (
    LINE_CLASSES,
    distribution_chart,
    latency_chart,
    loss_chart,
    offset_chart,
    trajectory_charts,
    validation_chart,
)
from ur10e_act.evaluation.results import Results
from ur10e_act.evaluation.summary import EvalSummary
from ur10e_act.evaluation.verdicts import lead_sentence, offset_verdict, verdicts


def render(results: Results, train_dir: Path | None) -> str:
    """The whole page."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["number"] = format_number
    summary = results.summary
    hold = summary.chunk_mae.baselines.hold_position.overall
    # Only on the validation's own episodes is the trivial policy's error comparable.
    level = hold if summary.held_out is True and hold else None
    distribution, share_beyond = distribution_chart(results)
    config = summary.checkpoint.train_config
    return environment.get_template("report.html.j2").render(
        summary=summary,
        lead=lead_sentence(summary),
        verdicts=verdicts(results),
        columns=COLUMNS,
        rows=[(name, cell_texts(cells), cells[-1]) for name, cells in figure_rows(results)],
        offset_lines=[LINE_CLASSES[name] for name in summary.chunk_mae.by_offset.reached()[1]],
        offset_chart=offset_chart(summary),
        offset_verdict=offset_verdict(summary),
        episodes=[(episode, trajectory_charts(episode, summary.joints)) for episode in results.episodes],
        distribution_chart=distribution,
        share_beyond=share_beyond,
        loss_chart=loss_chart(results) if results.train or results.val else None,
        validation_chart=validation_chart(results, level) if results.val else None,
        level=level,
        latency_chart=latency_chart(summary),
        facts=provenance(summary) + training_facts(results, train_dir),
        train_config=yaml.safe_dump(config, sort_keys=False) if config else None,
    )


def provenance(summary: EvalSummary) -> list[tuple[str, str]]:
    """Where the figures come from: (name, text)."""
    checkpoint, dataset, settings = summary.checkpoint, summary.dataset, summary.settings
    episodes = ", ".join(map(str, summary.episodes[:60])) + (", …" if len(summary.episodes) > 60 else "")
    steps = "to the end" if settings.num_steps is None else f"{settings.num_steps} frames each"
    mode = {
        "batched": f"batched: a chunk at every frame, {settings.batch_size} frames per call",
        "queue": f"queue of {settings.n_action_steps} actions per model call",
        "ensemble": f"temporal ensembling, coefficient {settings.temporal_ensemble_coeff}",
    }[summary.mode]
    return [
        ("Evaluated", summary.created.replace("T", " ").replace("+00:00", " UTC")),
        ("Checkpoint", checkpoint.path),
        ("Checkpoint fingerprint", checkpoint.fingerprint),
        ("Optimizer step", "unknown" if checkpoint.step is None else str(checkpoint.step)),
        ("Dataset", ", ".join(dataset.roots)),
        ("Dataset fingerprint", dataset.fingerprint),
        ("Robot", f"{dataset.robot_type}, {len(summary.joints)} joints, {dataset.fps} fps"),
        ("Cameras", "; ".join(f"{name} {h}×{w} px" for name, (h, w) in dataset.cameras.items())),
        ("Trained on this dataset", {True: "yes", False: "no", "unknown": "unknown"}[dataset.trained_on]),
        (
            "Episodes",
            f"{episodes} (from frame {settings.start_frame}, {steps}; {summary.num_frames} frames)",
        ),
        ("Mode", mode),
        ("Images", "blacked out" if summary.blackout_images else "as recorded"),
        ("Device", summary.device),
        ("Software", ", ".join(f"{name} {text}" for name, text in summary.versions.items())),
    ]


def training_facts(results: Results, train_dir: Path | None) -> list[tuple[str, str]]:
    """The run that the loss curves come from; empty without one."""
    if not results.train:
        return []
    speeds = [record["samples_per_s"] for record in results.train if "samples_per_s" in record]
    speed = f", median {format_number(float(np.median(speeds)))} samples/s" if speeds else ""
    return [("Training", f"{train_dir}: logged to step {results.train[-1]['step']}{speed}")]
