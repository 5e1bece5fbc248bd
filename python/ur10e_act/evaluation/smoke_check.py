"""Tells whether a training run learned anything, by its held-out error over the whole action chunk.

The trained policy must be ``FACTOR`` times better than it was before training, and better than the trivial
policy that holds the joints where they are. Prints the three figures; ends with status 1 where one is missed.

    python -m ur10e_act.evaluation.smoke_check --train outputs/smoke/train --eval outputs/smoke/eval
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ur10e_act.errors import UserError, run_cli
from ur10e_act.evaluation.summary import SUMMARY_FILE, read_summary
from ur10e_act.policy.metrics_file import METRICS_FILE, read_metrics

FACTOR = 3.0


def untrained_error(train: Path) -> float:
    """Mean absolute chunk error before the first step, in the dataset's units, from metrics.jsonl."""
    path = train / METRICS_FILE
    try:
        records = read_metrics(path)
        return next(r["val_mae"] for r in records if r["type"] == "val" and r["step"] == 0)
    except (OSError, ValueError, KeyError, StopIteration):
        raise UserError(f"{path}: no validation record of step 0; train first") from None


def held_out_errors(directory: Path) -> tuple[float, float]:
    """Mean absolute chunk error of the trained policy and of holding still, in the dataset's units."""
    summary, path = read_summary(directory), directory / SUMMARY_FILE
    if summary.held_out is not True:
        raise UserError(f"{path}: not of held-out episodes; evaluate those that training did not see")
    holding = summary.chunk_mae.baselines.hold_position.overall
    if holding is None:
        raise UserError(f"{path}: has no error of holding still; not every action has a state of its name")
    return summary.chunk_mae.overall, holding


def main() -> int:
    parser = argparse.ArgumentParser(description="Tell whether a training run learned anything.")
    parser.add_argument("--train", type=Path, required=True, help="training output, with metrics.jsonl")
    parser.add_argument("--eval", type=Path, required=True, help="evaluation output, with summary.json")
    arguments = parser.parse_args()

    untrained = untrained_error(arguments.train)
    trained, holding = held_out_errors(arguments.eval)
    learned = trained * FACTOR <= untrained and trained < holding
    print(
        f"held-out chunk MAE: {trained:.4f} trained, {untrained:.4f} untrained "
        f"({untrained / trained:.1f} times lower, {FACTOR:g} are asked for), {holding:.4f} holding still: "
        f"{'learned' if learned else 'NOT LEARNED'}"
    )
    return 0 if learned else 1


if __name__ == "__main__":
    run_cli(main)
