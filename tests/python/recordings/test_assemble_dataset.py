"""assemble_dataset.py: recordings that do not fit the others, and episodes that are added."""

import shutil
from pathlib import Path

from bags import NS, START_NS, Bag
from conversions import check, converted, digests, reasons


def test_sizes_that_differ_between_recordings_and_copies_are_left_out(tmp_path: Path) -> None:
    Bag().write(tmp_path / "bags" / "a")
    Bag(height=80).write(tmp_path / "bags" / "b")
    shutil.copytree(tmp_path / "bags" / "a", tmp_path / "bags" / "c")
    _, report = converted(tmp_path / "bags", tmp_path / "set")
    assert reasons(report) == {"a": "kept", "b": "size_differs", "c": "duplicate"}


def test_later_runs_add_what_is_new_and_give_the_same_bytes_as_one_run(tmp_path: Path) -> None:
    for number in range(4):
        Bag(offset_s=number, start_ns=START_NS + number * NS).write(tmp_path / "bags" / f"r{number}")
    for number in (2, 3):
        (tmp_path / "bags" / f"r{number}").rename(tmp_path / f"r{number}")
    converted(tmp_path / "bags", tmp_path / "set")
    first = digests(tmp_path / "set")
    converted(tmp_path / "bags", tmp_path / "set")
    assert digests(tmp_path / "set") == first
    for number in (2, 3):
        (tmp_path / f"r{number}").rename(tmp_path / "bags" / f"r{number}")
    dataset, report = converted(tmp_path / "bags", tmp_path / "set")
    assert [entry["episode"] for entry in report["recordings"]] == [0, 1, 2, 3]
    for episode in range(4):
        check(dataset, episode, offset_s=episode)
    converted(tmp_path / "bags", tmp_path / "once", workers=2)
    assert digests(tmp_path / "set") == digests(tmp_path / "once")
