"""What the report reads: which episodes, and which records of a training."""

import json

import pytest
from eval_examples import write_metrics

from ur10e_act.errors import UserError
from ur10e_act.evaluation.results import choose_episodes, read_training
from ur10e_act.evaluation.summary import EpisodeErrors


def test_worst_and_median_episodes_are_shown():
    entries = [EpisodeErrors(i, 10, mae, 2 * mae) for i, mae in enumerate([0.5, 0.1, 0.9, 0.3, 0.2])]
    shown = [(why, entry.episode) for why, entry in choose_episodes(entries)]
    assert shown == [("median error", 3), ("highest error", 2), ("lowest error", 1)]
    assert len(choose_episodes(entries[:2])) == 2
    assert len(choose_episodes(entries[:1])) == 1


def test_records_of_a_resumed_run_are_read_once(tmp_path):
    records = read_training(write_metrics(tmp_path / "train"))
    assert [(record["type"], record["step"]) for record in records] == [
        ("val", 0),
        ("train", 10),
        ("train", 20),
        ("train", 30),
        ("train", 40),
        ("val", 40),
    ]


def test_records_without_the_figures_that_are_drawn_are_named(tmp_path):
    for record, key in (({"type": "train", "step": 1}, "l1_loss"), ({"step": 1}, "type")):
        (tmp_path / "metrics.jsonl").write_text(json.dumps(record) + "\n")
        with pytest.raises(UserError, match=rf"metrics.jsonl: a record has no '{key}'"):
            read_training(tmp_path)
