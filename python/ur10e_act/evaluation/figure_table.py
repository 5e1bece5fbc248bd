"""The table of figures by joint, for the page and for a terminal."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ur10e_act.evaluation.charts import format_number
from ur10e_act.evaluation.results import Results, SignedErrors
from ur10e_act.evaluation.summary import BaselineErrors, ChunkErrors, ExecutedErrors

# Four of the executed action, four of the whole chunk.
COLUMNS = ("policy", "hold", "mean", "p95", "policy", "hold", "mean", "gain")


def figure_rows(results: Results) -> list[tuple[str, list[float | None]]]:
    """By joint and, last, over all joints: a name and a figure a column; the last is holding's error over the
    policy's."""
    mae, chunk = results.summary.mae, results.summary.chunk_mae
    rows = []
    for joint in [*results.summary.joints, None]:

        def pick(
            errors: BaselineErrors | ExecutedErrors | ChunkErrors, joint: str | None = joint
        ) -> float | None:
            return errors.overall if joint is None else errors.per_joint[joint]

        signed = list(results.errors.values()) if joint is None else [results.errors[joint]]
        trained = chunk.overall if joint is None else chunk.per_joint[joint]
        hold = pick(chunk.baselines.hold_position)
        cells = [
            pick(mae),
            pick(mae.baselines.hold_position),
            pick(mae.baselines.mean_action),
            SignedErrors(np.concatenate([entry.signed for entry in signed])).quantile(95),
            trained,
            hold,
            pick(chunk.baselines.mean_action),
            None if hold is None else hold / max(trained, 1e-12),
        ]
        rows.append(("all joints" if joint is None else joint, cells))
    return rows


def cell_texts(cells: Sequence[float | None]) -> list[str]:
    """A row's figures as text; the last is a ratio."""
    *figures, gain = cells
    return [*map(format_number, figures), "–" if gain is None else f"{format_number(gain, 2)}×"]


def text_table(results: Results) -> str:
    """The table for a terminal."""
    rows = [["", *COLUMNS], *([name, *cell_texts(cells)] for name, cells in figure_rows(results))]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append(f"{row[0]:<{widths[0]}}  {'  '.join(cells[:4])}  |  {'  '.join(cells[4:])}".rstrip())
    first = widths[0] + 2
    groups = f"{'MAE':<{first}}{'executed action':<{sum(widths[1:5]) + 6}}  |  whole chunk"
    return "\n".join([groups, *lines])
