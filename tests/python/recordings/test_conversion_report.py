"""conversion_report.py: entries of conversion.json are read back as they were written."""

import json

import pytest

from ur10e_act.recordings.conversion_report import Kept, RecordingReport, Skipped, table
from ur10e_act.recordings.find_recordings import Digests

DIGESTS = Digests("12", "34", {"day/one/one.mcap": {"bytes": 5, "md5": "56"}})
NOTES = [{"code": "journal", "sentence": "one.db3-wal: what it holds was read, too"}]
OFFSET = {"top": {"mean": 0.5, "max": 1.25}}
KEPT = Kept(59, 1.5, {"top": [64, 96, 3]}, OFFSET, {"gripper": 8.0}, {"/joint_states": {"time": "header"}})
REPORTS = [
    RecordingReport("day/one", KEPT, NOTES, {"/joint_states": 250}, DIGESTS, recover=True, episode=3),
    RecordingReport("day/two", Skipped("cut", "two.db3 is cut off"), [], {}, DIGESTS, recover=False),
    RecordingReport("x", Skipped("duplicate", "has the same content as day/one"), [], {}, DIGESTS, False),
]


@pytest.mark.parametrize("report", REPORTS)
def test_a_report_is_read_back(report: RecordingReport) -> None:
    entry = json.loads(json.dumps(report.to_json()))
    again = RecordingReport.from_json(entry)
    assert again == report
    assert list(again.to_json()) == list(entry)


def test_the_table_says_why_and_what_was_noted() -> None:
    assert table(REPORTS).splitlines() == [
        "recording  frames  result",
        "day/one        59  kept; one.db3-wal: what it holds was read, too",
        "day/two         -  skipped, cut: two.db3 is cut off",
        "x               -  skipped, duplicate: has the same content as day/one",
    ]
