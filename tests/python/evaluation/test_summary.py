"""summary.json: written and read back the same, and refused where an entry is missing or of another type."""

import json
from typing import Any

import pytest
from eval_examples import example_summary, write_summary

from ur10e_act.errors import UserError
from ur10e_act.evaluation.summary import read_summary, to_json


def test_what_is_read_is_written_back_byte_for_byte(tmp_path):
    summary = example_summary()
    summary["held_out"] = "unknown"
    summary["chunk_mae"]["by_offset"]["policy"][2] = None
    summary["chunk_mae"]["by_offset"]["frames"][2] = 0
    summary["mae"]["baselines"]["mean_action"] = {"overall": None, "per_joint": {"elbow": None, "gripper": 1}}
    write_summary(tmp_path, summary)
    assert to_json(read_summary(tmp_path)) == (tmp_path / "summary.json").read_text()


def test_entries_of_later_versions_are_ignored(tmp_path):
    write_summary(tmp_path, {**example_summary(), "gripper_force": 3})
    assert read_summary(tmp_path).num_frames == 7


MISSING = object()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("realtime", MISSING, "has no 'realtime'"),
        ("realtime.fps", MISSING, "has no 'realtime.fps'"),
        ("mae.baselines.mean_action", MISSING, "has no 'mae.baselines.mean_action'"),
        ("realtime.fps", "30", "'realtime.fps' is str, not int"),
        ("realtime.fps", True, "'realtime.fps' is bool, not int"),
        ("realtime.keeps_up", 1, "'realtime.keeps_up' is int, not bool"),
        ("chunk_mae.overall", None, "'chunk_mae.overall' is NoneType, not float"),
        ("chunk_mae.baselines.hold_position.overall", "0.1", "is str, not float | None"),
        ("chunk_mae.by_offset.policy", [0.1, "x", 0.2], "'chunk_mae.by_offset.policy[1]' is str, not float"),
        ("chunk_mae.by_offset.policy", [0.1], "'chunk_mae.by_offset' has columns of different lengths"),
        ("mode", "other", "'mode' is str, not "),
        ("held_out", "yes", "'held_out' is str, not "),
        ("dataset.cameras", {"top": [48]}, "'dataset.cameras.top' is list, not "),
        ("settings", [], "'settings' is list, not Settings"),
        ("joints", ["elbow", "wrist"], "has no 'mae' of 'wrist'"),
        ("joints", [], "'joints' is empty"),
        ("per_episode", [], "'per_episode' is empty"),
        ("latency_ms.samples", [], "'latency_ms.samples' is empty"),
        ("chunk_mae.by_offset.policy", [0.1, None, 0.2], "'chunk_mae.by_offset' lacks errors of the policy"),
        ("chunk_mae.by_offset.frames", [0, 0, 0], "'chunk_mae.by_offset' lacks errors of the policy"),
    ],
)
def test_missing_and_mistyped_entries_are_named(tmp_path, key, value, message):
    summary = example_summary()
    *sections, name = key.split(".")
    section: dict[str, Any] = summary
    for part in sections:
        section = section[part]
    if value is MISSING:
        del section[name]
    else:
        section[name] = value
    write_summary(tmp_path, summary)
    with pytest.raises(UserError) as raised:
        read_summary(tmp_path)
    text = str(raised.value)
    assert text.startswith(f"{tmp_path / 'summary.json'}: ")
    assert message in text
    assert text.endswith("; run offline_eval.py again")


def test_files_that_are_no_summary_are_named(tmp_path):
    with pytest.raises(UserError, match="not found; is .* the output of a finished offline_eval.py"):
        read_summary(tmp_path)
    for content, message in (("{", "cannot be read"), ("[]", "is list, not EvalSummary"), ("\xff", "cannot")):
        (tmp_path / "summary.json").write_bytes(content.encode("latin-1"))
        with pytest.raises(UserError, match=message):
            read_summary(tmp_path)


def test_offsets_that_no_frame_reaches_are_left_out_and_so_are_undefined_baselines(tmp_path):
    summary = example_summary()
    by_offset = summary["chunk_mae"]["by_offset"]
    by_offset.update(frames=[7, 5, 0], policy=[0.05, 0.1, None], hold_position=[0.01, 0.2, None])
    by_offset["mean_action"] = [None, None, None]
    offsets, series = read_summary(write_summary(tmp_path, summary)).chunk_mae.by_offset.reached()
    assert offsets == [1, 2]
    assert series == {"policy": [0.05, 0.1], "hold_position": [0.01, 0.2]}
    assert json.loads((tmp_path / "summary.json").read_text()) == summary
