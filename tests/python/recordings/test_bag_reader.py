"""bag_reader.py: messages are read whole and in order, or not at all."""

import sqlite3
from pathlib import Path

import pytest
import yaml
from bags import NS, START_NS, Bag, clock_image, cut_file, image, storage_file, without_metadata
from conversions import MCAP, TOP, assert_left_out, check, converted, reasons


def test_metadata_that_differs_from_the_storage_loses_nothing(tmp_path: Path) -> None:
    """Another QoS there makes rosbags' reader of folders give no message at all; counts may be too small."""
    bag = Bag().write(tmp_path / "bags" / "one")
    metadata = yaml.safe_load((bag / "metadata.yaml").read_text())
    for topic in metadata["rosbag2_bagfile_information"]["topics_with_message_count"]:
        topic["topic_metadata"]["offered_qos_profiles"] = yaml.safe_dump(
            [
                {
                    "history": 3,
                    "depth": 0,
                    "reliability": 2,
                    "durability": 2,
                    "deadline": {"sec": 1, "nsec": 0},
                    "lifespan": {"sec": 1, "nsec": 0},
                    "liveliness": 1,
                    "liveliness_lease_duration": {"sec": 1, "nsec": 0},
                    "avoid_ros_namespace_conventions": False,
                }
            ]
        )
        topic["message_count"] -= 1
    (bag / "metadata.yaml").write_text(yaml.safe_dump(metadata))
    dataset, report = converted(tmp_path / "bags", tmp_path / "set")
    check(dataset)
    assert dataset.num_frames == 59
    assert {note["code"] for note in report["recordings"][0]["notes"]} == {"metadata_counts"}


def test_recover_takes_a_cut_mcap_up_to_its_cut_and_recordings_without_metadata(tmp_path: Path) -> None:
    # Raw images, so that there are several chunks: within one nothing can be recovered.
    raw = Bag(seconds=6, storage=MCAP, make_image=image).write(tmp_path / "bags" / "cut")
    cut_file(raw)
    without_metadata(Bag(seconds=2).write(tmp_path / "bags" / "killed"))
    cut_file(Bag().write(tmp_path / "bags" / "sqlite"))
    Bag().write(tmp_path / "bags" / "whole")
    _, report = converted(tmp_path / "bags", tmp_path / "set")
    assert reasons(report) == {"cut": "cut", "killed": "no_metadata", "sqlite": "cut", "whole": "kept"}
    dataset, report = converted(tmp_path / "bags", tmp_path / "set", recover=True)
    assert reasons(report) == {"cut": "kept", "killed": "kept", "sqlite": "cut", "whole": "kept"}
    episodes = {entry["recording"]: entry for entry in report["recordings"]}
    assert [episodes[name]["episode"] for name in ("whole", "cut", "killed")] == [0, 1, 2]
    assert 60 < episodes["cut"]["frames"] < 150
    assert episodes["killed"]["frames"] == 59
    assert "taken up to its cut" in episodes["cut"]["notes"][0]["sentence"]
    for episode in range(3):
        check(dataset, episode)


def clock_back(found: list) -> list:
    """The recorder's clock is set back by half a second; messages without stamps."""
    for number, (topic, received, message) in enumerate(found):
        message.header.stamp.sec = message.header.stamp.nanosec = 0
        if received > START_NS + NS:
            found[number] = (topic, received - NS // 2, message)
    return found


def lost_rows(bag: Path) -> None:
    with sqlite3.connect(storage_file(bag)) as database:
        database.execute("DELETE FROM messages WHERE id % 7 = 0")


def two_types(found: list) -> list:
    return [*found, (TOP, found[-1][1], image(found[-1][1], clock_image(0.1)))]


FAULTS = {
    "empty": (Bag(change=lambda found: []), None, "empty"),
    "no metadata": (Bag(), without_metadata, "no_metadata"),
    "clock goes back": (Bag(change=clock_back), None, "time_back"),
    "clock goes back, mcap": (Bag(change=clock_back, storage=MCAP), None, "time_back"),
    "lost messages": (Bag(), lost_rows, "lost_messages"),
    "two types": (Bag(change=two_types), None, "two_types"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_faulty_recording_is_named_and_left_out(name: str, tmp_path: Path, capsys) -> None:
    assert_left_out(*FAULTS[name], tmp_path, capsys)
