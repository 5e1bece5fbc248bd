"""bag_storage.py: every kind of storage is read whole, and what is not whole is left out."""

import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from bags import NS, START_NS, Bag, cut_file, storage_file
from conversions import MCAP, SQLITE, TOP, assert_left_out, check, converted, digests
from rosbags.rosbag2 import CompressionMode

from ur10e_act.recordings.convert_config import UR_JOINTS
from ur10e_act.recordings.find_recordings import find_recordings


@pytest.mark.parametrize(
    ("storage", "compression"),
    [
        (SQLITE, None),
        (MCAP, None),
        (MCAP, CompressionMode.STORAGE),
        (SQLITE, CompressionMode.FILE),
        (MCAP, CompressionMode.FILE),
        (SQLITE, CompressionMode.MESSAGE),
        (MCAP, CompressionMode.MESSAGE),
    ],
)
def test_every_storage_gives_the_motion_and_its_images(storage, compression, tmp_path: Path) -> None:
    Bag(storage=storage, compression=compression).write(tmp_path / "bags" / "one")
    dataset, report = converted(tmp_path / "bags", tmp_path / "set")
    assert dataset.state_names == tuple(name.removesuffix("_joint") for name in UR_JOINTS)
    assert dataset.fps == 30
    assert dataset.num_frames == 59
    check(dataset)
    (entry,) = report["recordings"]
    assert entry["messages"] == {"/joint_states": 250, TOP: 60}
    assert entry["notes"] == []
    assert entry["picture_offset_ms"]["top"]["max"] < 1
    assert entry["largest_gap_ms"]["joint elbow_joint"] == 8.0
    assert entry["topics"][TOP]["received_later_ms"] == {"least": 2.0, "mean": 2.0, "most": 2.0}


def split_in_two(bag: Path, second: Path) -> None:
    """Makes a second part of one recording of what was written as another."""
    part, other = storage_file(bag), storage_file(second)
    first_name, second_name = f"one_9{part.suffix}", f"one_10{part.suffix}"
    part.rename(bag / first_name)
    other.rename(bag / second_name)
    metadata = yaml.safe_load((bag / "metadata.yaml").read_text())
    more = yaml.safe_load((second / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    information = metadata["rosbag2_bagfile_information"]
    information["relative_file_paths"] = [first_name, second_name]
    for topic, added in zip(
        information["topics_with_message_count"], more["topics_with_message_count"], strict=True
    ):
        topic["message_count"] += added["message_count"]
    (bag / "metadata.yaml").write_text(yaml.safe_dump(metadata))
    for file in second.iterdir():
        file.unlink()
    second.rmdir()


def part_of(seconds: tuple[float, float]):
    return lambda found: [m for m in found if seconds[0] <= (m[1] - START_NS) / NS < seconds[1]]


@pytest.mark.parametrize("storage", [SQLITE, MCAP])
def test_split_recordings_are_one_episode(storage, tmp_path: Path) -> None:
    for name, seconds in (("one", (0, 1.03)), ("two", (1.03, 9))):
        Bag(storage=storage, change=part_of(seconds)).write(tmp_path / "bags" / name)
    split_in_two(tmp_path / "bags" / "one", tmp_path / "bags" / "two")
    assert [part.stem for part in find_recordings(tmp_path / "bags")[0].parts] == ["one_9", "one_10"]
    dataset, _ = converted(tmp_path / "bags", tmp_path / "set")
    assert dataset.num_frames == 59
    check(dataset)


def test_a_wal_file_left_beside_is_read(tmp_path: Path) -> None:
    bag = Bag().write(tmp_path / "bags" / "one")
    file = storage_file(bag)
    copy = tmp_path / "copy.db3"
    file.rename(copy)
    with sqlite3.connect(copy) as source:
        rows = source.execute("SELECT * FROM messages ORDER BY id").fetchall()
        source.execute("DELETE FROM messages WHERE id > 150")
        source.commit()
    code = (
        "import os, pickle, sqlite3, sys; db = sqlite3.connect(sys.argv[1]);"
        "db.execute('PRAGMA journal_mode=WAL'); db.execute('PRAGMA wal_autocheckpoint=0');"
        "db.executemany('INSERT INTO messages VALUES (?, ?, ?, ?)', pickle.load(sys.stdin.buffer));"
        "db.commit(); os.kill(os.getpid(), 9)"
    )
    import pickle

    late = pickle.dumps([row for row in rows if row[0] > 150])
    subprocess.run([sys.executable, "-c", code, copy], input=late)
    for end in ("", "-wal"):
        (tmp_path / f"copy.db3{end}").rename(file.with_name(file.name + end))
    before = digests(bag)
    assert file.with_name(file.name + "-wal").stat().st_size > 0
    dataset, report = converted(tmp_path / "bags", tmp_path / "set")
    check(dataset)
    assert dataset.num_frames == 59
    assert report["recordings"][0]["notes"][0]["code"] == "journal"
    assert digests(bag) == before


def garbage(bag: Path) -> None:
    file = storage_file(bag)
    content = bytearray(file.read_bytes())
    content[4096:40960] = os.urandom(36864)
    file.write_bytes(content)


FAULTS = {
    "cut mcap": (Bag(storage=MCAP), cut_file, "cut"),
    "cut sqlite": (Bag(), cut_file, "cut"),
    "cut zst": (Bag(compression=CompressionMode.FILE), cut_file, "cut"),
    "no bytes": (Bag(), lambda bag: os.truncate(storage_file(bag), 0), "cut"),
    "bad metadata": (Bag(), lambda bag: (bag / "metadata.yaml").write_text("a: ["), "bad_metadata"),
    "missing part": (Bag(), lambda bag: storage_file(bag).unlink(), "missing_part"),
    "surplus part": (Bag(), lambda bag: (bag / "x_1.db3").write_bytes(b"1"), "surplus_part"),
    "damaged storage": (Bag(), garbage, "unreadable"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_faulty_recording_is_named_and_left_out(name: str, tmp_path: Path, capsys) -> None:
    assert_left_out(*FAULTS[name], tmp_path, capsys)
