"""smoke_check: what counts as learned, told from the files that training and evaluation write."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from eval_examples import example_summary, write_summary


def check(
    folder: Path, untrained: float, trained: float, holding: float, held_out: bool = True
) -> subprocess.CompletedProcess[str]:
    records = [
        {"type": "val", "step": 0, "val_mae": untrained},
        {"type": "train", "step": 1, "loss": 1.0},
        {"type": "val", "step": 2, "val_mae": trained},
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    summary = example_summary()
    summary["chunk_mae"]["overall"] = trained
    summary["chunk_mae"]["baselines"]["hold_position"]["overall"] = holding
    write_summary(folder, {**summary, "held_out": held_out})
    return run(folder)


def run(folder: Path) -> subprocess.CompletedProcess[str]:
    script = ["-m", "ur10e_act.evaluation.smoke_check"]
    return subprocess.run(
        [sys.executable, *script, "--train", folder, "--eval", folder], capture_output=True, text=True
    )


@pytest.mark.parametrize(
    ("untrained", "trained", "holding", "status"),
    [
        (0.31, 0.1, 0.2, 0),
        (0.29, 0.1, 0.2, 1),  # less than three times better
        (0.31, 0.1, 0.1, 1),  # no better than holding still
    ],
)
def test_learned_is_three_times_better_and_better_than_holding_still(
    tmp_path: Path, untrained: float, trained: float, holding: float, status: int
) -> None:
    done = check(tmp_path, untrained, trained, holding)
    assert done.returncode == status, done.stderr
    assert f"{trained:.4f} trained, {untrained:.4f} untrained" in done.stdout
    assert ("NOT LEARNED" in done.stdout) == bool(status)


def test_episodes_that_training_saw_prove_nothing(tmp_path: Path) -> None:
    done = check(tmp_path, 0.3, 0.1, 0.2, held_out=False)
    assert done.returncode == 2
    assert "not of held-out episodes" in done.stderr


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "metrics.jsonl" in done.stderr
    check(tmp_path, 0.3, 0.1, 0.2)
    (tmp_path / "summary.json").write_text("{}")
    assert "summary.json" in run(tmp_path).stderr
