"""rosbag_to_lerobot.py: real recordings to datasets, what is refused and why, what a killed run leaves."""

import hashlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from bags import (
    HUMBLE_ORDER,
    NS,
    START_NS,
    STORE,
    TYPES,
    Bag,
    compressed,
    frames_of,
    grip,
    image,
    joint_state,
    motion,
    picture,
    read_time,
    storage_file,
)
from conftest import ROOT
from rosbags.rosbag2 import CompressionMode, StoragePlugin

import rosbag_to_lerobot
from rosbag_to_lerobot import Options, convert
from ur10e_act.config import ConfigError
from ur10e_act.dataset.lerobot_dataset import open_dataset
from ur10e_act.errors import UserError
from ur10e_act.recordings.bag_reader import find_recordings, folder_kind
from ur10e_act.recordings.convert_config import (
    UR_JOINTS,
    ActionConfig,
    CameraConfig,
    ConvertConfig,
    GripperConfig,
    JointsConfig,
    load_convert_config,
)

TOP = "/top/image_raw/compressed"
CONFIG = ConvertConfig(task="reach", cameras={"top": CameraConfig(TOP)})
MCAP, SQLITE = StoragePlugin.MCAP, StoragePlugin.SQLITE3
FIRST_S = 0.004  # of Bag's pictures, and so of the rows


def options(**changes) -> Options:
    return Options(**({"workers": 1} | changes))


def converted(bags: Path, output: Path, config: ConvertConfig = CONFIG, **changes):
    """The dataset, and conversion.json."""
    report = convert(bags, output, config, options(**changes))
    assert report == json.loads((output / "conversion.json").read_text())
    return open_dataset([output]), report


def check(dataset, episode: int = 0, offset_s: float = 0.0, fps: int = 30) -> None:
    """States and actions are those of the motion at the rows' times, and so are the pictures."""
    times = FIRST_S + np.arange(dataset.episodes[episode].length) / fps
    np.testing.assert_allclose(dataset.read_states(episode), motion(times + offset_s), rtol=0, atol=5e-5)
    np.testing.assert_allclose(
        dataset.read_actions(episode), motion(times + 1 / fps + offset_s), rtol=0, atol=5e-5
    )
    for camera in dataset.cameras:
        seen = [read_time(frame) for frame in frames_of(dataset, camera, episode)]
        assert np.abs(np.array(seen) - times).max() < 0.5 / 30 + 1e-3


def reasons(report) -> dict[str, str]:
    return {entry["recording"]: entry.get("code", "kept") for entry in report["recordings"]}


def digests(root: Path) -> dict[str, str]:
    files = (path for path in sorted(root.rglob("*")) if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


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
def test_every_storage_gives_the_motion_and_its_pictures(storage, compression, tmp_path: Path) -> None:
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


def test_joints_by_name_from_several_publishers_gripper_and_two_cameras(tmp_path: Path) -> None:
    """Two publishers on one topic, each with some joints, in orders that change from message to message."""

    def change(found: list) -> list:
        shared = []
        for number, (topic, received, message) in enumerate(found):
            if topic != "/joint_states":
                shared.append((topic, received, message))
                continue
            values = dict(zip(message.name, message.position, strict=True))
            names = list(values)[number % 5 :] + list(values)[: number % 5]
            t = (received - START_NS) / NS
            for chosen in (names[:2], names[2:]):
                shared.append((topic, received, joint_state(received, [values[n] for n in chosen], chosen)))
            shared.append((topic, received, joint_state(received, [grip(t), 7.0], ["finger_joint", "other"])))
        return shared

    wrist = "/wrist/image_raw/compressed"
    Bag(cameras=(TOP, wrist), change=change).write(tmp_path / "bags" / "one")
    config = ConvertConfig(
        task="reach",
        gripper=GripperConfig("/joint_states", "finger_joint"),
        cameras={"top": CameraConfig(TOP), "wrist": CameraConfig(wrist, resize=(32, 48))},
    )
    dataset, _ = converted(tmp_path / "bags", tmp_path / "set", config)
    times = 0.007 + np.arange(dataset.num_frames) / 30
    np.testing.assert_allclose(dataset.read_states(0)[:, :6], motion(times), atol=5e-5)
    np.testing.assert_allclose(dataset.read_states(0)[:, 6], grip(times), atol=5e-5)
    assert dataset.state_names[-1] == "gripper"
    assert dataset.image_shapes == {"observation.images.top": (64, 96), "observation.images.wrist": (32, 48)}


@pytest.mark.parametrize("wrap", [False, True])
def test_deltas_go_the_short_way_round_with_signs_and_wrapping(wrap: bool, tmp_path: Path) -> None:
    """The source wraps at pi while the pan joint turns steadily through it."""

    def turning(t: np.ndarray) -> np.ndarray:
        return 2.5 + 1.5 * t

    def change(found: list) -> list:
        for _, received, message in found:
            if hasattr(message, "position"):
                angle = turning((received - START_NS) / NS)
                pan = HUMBLE_ORDER.index("shoulder_pan_joint")
                message.position[pan] = (angle + np.pi) % (2 * np.pi) - np.pi
        return found

    Bag(change=change).write(tmp_path / "bags" / "one")
    config = ConvertConfig(
        task="turn",
        joints=JointsConfig(signs=(-1, 1, 1, 1, 1, -1), wrap=wrap),
        cameras=CONFIG.cameras,
        action=ActionConfig("delta"),
    )
    dataset, _ = converted(tmp_path / "bags", tmp_path / "set", config)
    times = FIRST_S + np.arange(dataset.num_frames) / 30
    states, actions = dataset.read_states(0), dataset.read_actions(0)
    expected = motion(times) * [-1, 1, 1, 1, 1, -1]
    expected[:, 0] = -((turning(times) + np.pi) % (2 * np.pi) - np.pi)
    np.testing.assert_allclose(np.cos(states), np.cos(expected), atol=1e-4)
    assert np.abs(states[:, 0]).max() <= np.pi + 0.02
    np.testing.assert_allclose(actions[:, 0], -1.5 / 30, atol=1e-4)
    np.testing.assert_allclose(
        actions[:, 5], -np.diff(motion(np.append(times, times[-1] + 1 / 30))[:, 5]), atol=1e-4
    )


def command_messages(found: list, kind: str) -> list:
    more = []
    for topic, received, message in found:
        more.append((topic, received, message))
        if topic == "/joint_states":
            values = motion((received - START_NS) / NS) + 1
            if kind == "array":
                layout = TYPES["std_msgs/msg/MultiArrayLayout"](dim=[], data_offset=0)
                command = TYPES["std_msgs/msg/Float64MultiArray"](layout=layout, data=values)
            else:
                soon = TYPES["builtin_interfaces/msg/Duration"](sec=0, nanosec=0)
                empty = np.zeros(0)
                point = TYPES["trajectory_msgs/msg/JointTrajectoryPoint"](
                    values[::-1].copy(), empty, empty, empty, soon
                )
                command = TYPES["trajectory_msgs/msg/JointTrajectory"](
                    message.header, list(UR_JOINTS[::-1]), [point]
                )
            more.append(("/command", received, command))
    return more


@pytest.mark.parametrize("kind", ["array", "trajectory"])
def test_commands_as_actions(kind: str, tmp_path: Path) -> None:
    """The command in force at each row; without a header its receive time counts."""
    Bag(change=lambda found: command_messages(found, kind)).write(tmp_path / "bags" / "one")
    config = ConvertConfig(task="reach", cameras=CONFIG.cameras, action=ActionConfig("command", "/command"))
    dataset, report = converted(tmp_path / "bags", tmp_path / "set", config)
    times = FIRST_S + np.arange(dataset.num_frames) / 30
    held = np.floor(times * 125 + 1e-6) / 125
    np.testing.assert_allclose(dataset.read_actions(0), motion(held) + 1, atol=1e-5)
    used = report["recordings"][0]["topics"]["/command"]["time"]
    assert used == ("receive" if kind == "array" else "header")


def test_other_cameras(tmp_path: Path) -> None:
    """Raw pictures with padded rows, receive times where stamps are absent; foreign types do not matter."""

    def raw(_: int, frame: np.ndarray):
        return image(0, frame[..., ::-1], "bgr8", padding=6)

    Bag(make_picture=raw, change=lambda found: unknown_type(found)).write(tmp_path / "bags" / "one")
    dataset, report = converted(tmp_path / "bags", tmp_path / "set")
    times = 0.006 + np.arange(dataset.num_frames) / 30
    seen = [read_time(frame) for frame in frames_of(dataset, dataset.cameras[0], 0)]
    np.testing.assert_allclose(np.array(seen) + 0.002, times, atol=1e-3)
    assert report["recordings"][0]["topics"][TOP] == {"time": "receive"}


def unknown_type(found: list) -> list:
    status = TYPES["diagnostic_msgs/msg/KeyValue"](key="a", value="b")
    return [*found, ("/status", found[-1][1], status)]


def drop(topic: str, first_s: float, last_s: float):
    def change(found: list) -> list:
        return [m for m in found if m[0] != topic or not first_s <= (m[1] - START_NS) / NS < last_s]

    return change


def with_nan(found: list) -> list:
    next(m for m in found[200:] if m[0] == "/joint_states")[2].position[2] = np.nan
    return found


def with_bigger_picture(found: list) -> list:
    number = next(i for i in range(200, len(found)) if found[i][0] == TOP)
    ns = found[number][1]
    found[number] = (TOP, ns, compressed(ns - 2_000_000, picture(1.0, 80, 112)))
    return found


def stamps_back(found: list) -> list:
    number = next(i for i in range(200, len(found)) if found[i][0] == TOP)
    found[number][2].header.stamp.sec -= 1
    return found


def clock_back(found: list) -> list:
    """The recorder's clock is set back by half a second; messages without stamps."""
    for number, (topic, received, message) in enumerate(found):
        message.header.stamp.sec = message.header.stamp.nanosec = 0
        if received > START_NS + NS:
            found[number] = (topic, received - NS // 2, message)
    return found


def cut_picture(found: list) -> list:
    message = next(m for m in found[200:] if m[0] == TOP)[2]
    message.data = message.data[:400]
    return found


def cut_file(bag: Path) -> None:
    file = storage_file(bag)
    os.truncate(file, file.stat().st_size * 2 // 3)


def without_metadata(bag: Path) -> None:
    (bag / "metadata.yaml").unlink()


def lost_rows(bag: Path) -> None:
    with sqlite3.connect(storage_file(bag)) as database:
        database.execute("DELETE FROM messages WHERE id % 7 = 0")


def garbage(bag: Path) -> None:
    file = storage_file(bag)
    content = bytearray(file.read_bytes())
    content[4096:40960] = os.urandom(36864)
    file.write_bytes(content)


def mixed_stamps(found: list) -> list:
    message = next(m for m in found[200:] if m[0] == TOP)[2]
    message.header.stamp.sec = message.header.stamp.nanosec = 0
    return found


def two_types(found: list) -> list:
    return [*found, (TOP, found[-1][1], image(found[-1][1], picture(0.1)))]


FAULTS = {
    "empty": (Bag(change=lambda found: []), None, "empty"),
    "other topics only": (Bag(change=lambda found: unknown_type(found)[-1:]), None, "empty"),
    "cut mcap": (Bag(storage=MCAP), cut_file, "cut"),
    "cut sqlite": (Bag(), cut_file, "cut"),
    "cut zst": (Bag(compression=CompressionMode.FILE), cut_file, "cut"),
    "no bytes": (Bag(), lambda bag: os.truncate(storage_file(bag), 0), "cut"),
    "no metadata": (Bag(), without_metadata, "no_metadata"),
    "bad metadata": (Bag(), lambda bag: (bag / "metadata.yaml").write_text("a: ["), "bad_metadata"),
    "missing part": (Bag(), lambda bag: storage_file(bag).unlink(), "missing_part"),
    "surplus part": (Bag(), lambda bag: (bag / "x_1.db3").write_bytes(b"1"), "surplus_part"),
    "missing camera": (Bag(cameras=()), None, "missing_topic"),
    "missing joints": (Bag(change=drop("/joint_states", 0, 9)), None, "missing_topic"),
    "missing joint": (
        Bag(
            change=lambda found: [
                (t, r, joint_state(r, m.position[1:], m.name[1:]) if hasattr(m, "position") else m)
                for t, r, m in found
            ]
        ),
        None,
        "missing_joint",
    ),
    "NaN": (Bag(change=with_nan), None, "not_finite"),
    "stamps go back": (Bag(change=stamps_back), None, "time_back"),
    "clock goes back": (Bag(change=clock_back), None, "time_back"),
    "clock goes back, mcap": (Bag(change=clock_back, storage=MCAP), None, "time_back"),
    "camera gap": (Bag(change=drop(TOP, 0.9, 1.1)), None, "gap"),
    "joint gap": (Bag(change=drop("/joint_states", 0.9, 1.05)), None, "gap"),
    "size changes": (Bag(change=with_bigger_picture), None, "size_changes"),
    "cut picture": (Bag(change=cut_picture), None, "bad_picture"),
    "lost messages": (Bag(), lost_rows, "lost_messages"),
    "damaged storage": (Bag(), garbage, "unreadable"),
    "mixed stamps": (Bag(change=mixed_stamps), None, "mixed_stamps"),
    "two types": (Bag(change=two_types), None, "two_types"),
    "too short": (Bag(seconds=0.5), None, "too_short"),
    "no overlap": (
        Bag(change=lambda found: drop("/joint_states", 0.9, 9)(drop(TOP, 0, 1.0)(found))),
        None,
        "no_overlap",
    ),
    "odd size": (Bag(height=65), None, "odd_size"),
    "wrong camera type": (
        Bag(make_picture=lambda ns, frame: joint_state(ns, np.zeros(6))),
        None,
        "wrong_type",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_faulty_recording_is_named_and_left_out_and_strict_refuses(
    name: str, tmp_path: Path, capsys
) -> None:
    bag, spoil, code = FAULTS[name]
    good, bad = Bag(), bag.write(tmp_path / "bags" / "bad")
    good.write(tmp_path / "bags" / "good")
    if spoil:
        spoil(bad)
    before = digests(tmp_path / "bags")
    with pytest.raises(UserError, match="--strict"):
        convert(tmp_path / "bags", tmp_path / "set", CONFIG, options(strict=True))
    assert not (tmp_path / "set").exists()
    dataset, report = converted(tmp_path / "bags", tmp_path / "set")
    assert reasons(report) == {"bad": code, "good": "kept"}
    assert report["summary"] == {"kept": 1, "skipped": 1, "frames": 59, "fps": 30}
    check(dataset)
    shown = capsys.readouterr().out
    entry = report["recordings"][0]
    assert f"skipped, {code}: {entry['reason']}" in shown
    assert entry["reason"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bags", "set"]
    assert digests(tmp_path / "bags") == before, "recordings are read, never written to"


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
    # Raw pictures, so that there are several chunks: within one nothing can be recovered.
    raw = Bag(seconds=6, storage=MCAP, make_picture=image).write(tmp_path / "bags" / "cut")
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


def test_sizes_that_differ_between_recordings_and_copies_are_left_out(tmp_path: Path) -> None:
    Bag().write(tmp_path / "bags" / "a")
    Bag(height=80).write(tmp_path / "bags" / "b")
    shutil.copytree(tmp_path / "bags" / "a", tmp_path / "bags" / "c")
    _, report = converted(tmp_path / "bags", tmp_path / "set")
    assert reasons(report) == {"a": "kept", "b": "size_differs", "c": "duplicate"}


def test_nothing_usable_writes_nothing(tmp_path: Path) -> None:
    without_metadata(Bag().write(tmp_path / "bags" / "one"))
    with pytest.raises(UserError, match="none of 1 recordings"):
        convert(tmp_path / "bags", tmp_path / "set", CONFIG, options())
    assert not (tmp_path / "set").exists()


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


def test_recordings_that_are_in_the_dataset_need_not_be_there(tmp_path: Path, capfd) -> None:
    for number in range(3):
        Bag(offset_s=number, start_ns=START_NS + number * NS).write(tmp_path / "bags" / "day" / f"r{number}")
    converted(tmp_path / "bags", tmp_path / "once")
    (tmp_path / "bags" / "day" / "r2").rename(tmp_path / "r2")
    _, report = converted(tmp_path / "bags", tmp_path / "set")
    for entry in report["recordings"]:
        assert sorted(entry["files"]) == sorted(
            file.relative_to(tmp_path / "bags").as_posix()
            for file in (tmp_path / "bags" / entry["recording"]).iterdir()
        )
        for name, file in entry["files"].items():
            content = (tmp_path / "bags" / name).read_bytes()
            assert file == {"bytes": len(content), "md5": hashlib.md5(content).hexdigest()}
    (tmp_path / "none").mkdir()
    before = digests(tmp_path / "set")
    _, same = converted(tmp_path / "none", tmp_path / "set")
    assert same == report
    assert digests(tmp_path / "set") == before
    assert f"{tmp_path / 'none'}: no recordings here; " in capfd.readouterr().err
    (tmp_path / "more" / "day").mkdir(parents=True)
    (tmp_path / "r2").rename(tmp_path / "more" / "day" / "r2")
    converted(tmp_path / "more", tmp_path / "set")
    assert digests(tmp_path / "set") == digests(tmp_path / "once")


def test_files_roll_over_the_same_way_when_episodes_are_added(tmp_path: Path, monkeypatch) -> None:
    """Small limits: several files of each kind, of which the last goes on."""

    class Small(rosbag_to_lerobot.DatasetWriter):
        def __init__(self, *arguments, **keywords):
            super().__init__(
                *arguments, data_file_size_bytes=11_000, video_file_size_bytes=60_000, **keywords
            )

    class SmallExtender(rosbag_to_lerobot.DatasetExtender):
        def __init__(self, *arguments, **keywords):
            super().__init__(
                *arguments, data_file_size_bytes=11_000, video_file_size_bytes=60_000, **keywords
            )

    monkeypatch.setattr(rosbag_to_lerobot, "DatasetWriter", Small)
    monkeypatch.setattr(rosbag_to_lerobot, "DatasetExtender", SmallExtender)
    for number in range(5):
        Bag(offset_s=number, start_ns=START_NS + number * NS).write(tmp_path / "bags" / f"r{number}")
        if number in (0, 2, 4):
            dataset, _ = converted(tmp_path / "bags", tmp_path / "set")
    converted(tmp_path / "bags", tmp_path / "once")
    found = digests(tmp_path / "set")
    assert found == digests(tmp_path / "once")
    assert sum(name.endswith(".mp4") for name in found) > 1
    assert sum("data/" in name for name in found) > 1
    for episode in range(5):
        check(dataset, episode, offset_s=episode)


def test_changes_are_refused_until_overwrite(tmp_path: Path) -> None:
    Bag().write(tmp_path / "bags" / "one")
    converted(tmp_path / "bags", tmp_path / "set")
    before = digests(tmp_path / "set")
    other = ConvertConfig(task="reach", fps=15, cameras=CONFIG.cameras)
    with pytest.raises(UserError, match="another fps.*--overwrite"):
        convert(tmp_path / "bags", tmp_path / "set", other, options())
    for file in (tmp_path / "bags" / "one").iterdir():
        file.unlink()
    (tmp_path / "bags" / "one").rmdir()
    Bag(offset_s=5).write(tmp_path / "bags" / "one")
    with pytest.raises(UserError, match="one: changed since it was converted.*--overwrite"):
        convert(tmp_path / "bags", tmp_path / "set", CONFIG, options())
    assert digests(tmp_path / "set") == before
    dataset, _ = converted(tmp_path / "bags", tmp_path / "set", other, overwrite=True)
    check(dataset, offset_s=5, fps=15)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").touch()
    with pytest.raises(UserError, match="choose another --output"):
        convert(tmp_path / "bags", tmp_path / "mine", CONFIG, options())


@pytest.mark.slow
def test_a_killed_run_goes_on_with_the_pieces_it_has_made(tmp_path: Path) -> None:
    for number in range(4):
        Bag(seconds=4, offset_s=number, start_ns=START_NS + number * NS).write(
            tmp_path / "bags" / f"r{number}"
        )
    config = tmp_path / "convert.yaml"
    config.write_text(f"task: reach\ncameras: {{top: {{topic: {TOP}}}}}\n")
    script = ROOT / "python" / "rosbag_to_lerobot.py"
    arguments = [
        "--bags",
        tmp_path / "bags",
        "--output",
        tmp_path / "set",
        "--config",
        config,
        "--workers",
        "2",
    ]
    run = subprocess.Popen(
        [sys.executable, script, *arguments], stderr=subprocess.PIPE, stdout=subprocess.PIPE
    )
    pieces = tmp_path / ".set.pieces"
    deadline = time.monotonic() + 60
    done: list[Path] = []
    while not done and time.monotonic() < deadline:
        time.sleep(0.005)
        done = [path for path in pieces.glob("*/piece.json") if path.parent.suffix != ".partial"]
    os.kill(run.pid, signal.SIGKILL)
    run.communicate(timeout=30)  # ends when no worker is left that holds the pipe
    times = {path: path.stat().st_mtime_ns for path in done}
    left = {path: path.stat().st_mtime_ns for path in pieces.glob("*/piece.json") if path in times}
    assert done
    assert not (tmp_path / "set").exists()
    assert left == times
    again = subprocess.run([sys.executable, script, *arguments], capture_output=True, text=True)
    assert again.returncode == 0, again.stderr
    converted(tmp_path / "bags", tmp_path / "once")
    assert digests(tmp_path / "set") == digests(tmp_path / "once")
    assert not pieces.exists()


@pytest.mark.slow
def test_memory_does_not_grow_with_the_length(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from test_rosbag_to_lerobot import CONFIG;"
        "from ur10e_act.recordings.bag_reader import find_recordings;"
        "from ur10e_act.recordings.convert_recording import convert_recording;"
        "print(convert_recording(find_recordings(sys.argv[1])[0], CONFIG, Path(sys.argv[2]))['frames']);"
        "print(*(line for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    )
    path = os.pathsep.join(str(ROOT / folder) for folder in ("python", "tests/python"))
    peaks = {}
    for seconds in (6, 60):
        bag = Bag(seconds=seconds, camera_hz=30, height=160, width=240).write(tmp_path / f"bag{seconds}")
        found = subprocess.run(
            [sys.executable, "-c", code, bag, tmp_path / "piece"],
            env=os.environ | {"PYTHONPATH": path},
            check=True,
            capture_output=True,
            text=True,
        ).stdout.split()
        assert int(found[0]) > 28 * seconds
        peaks[seconds] = int(found[2])
    assert peaks[60] < peaks[6] + 12_000, f"{peaks} kB"


@pytest.mark.slow
def test_lerobot_reads_it(later_lerobot: tuple[str, str], tmp_path: Path) -> None:
    _, python = later_lerobot
    for number in range(2):
        Bag(offset_s=number, start_ns=START_NS + number * NS).write(tmp_path / "bags" / f"r{number}")
    converted(tmp_path / "bags", tmp_path / "set")
    script = ROOT / "tests" / "reference" / "use_dataset.py"
    environment = os.environ | {"HF_HOME": str(tmp_path / "hf")}
    subprocess.run([python, script, tmp_path / "set", tmp_path], check=True, env=environment)
    items = np.load(tmp_path / "items.npz")
    times = FIRST_S + np.arange(59) / 30
    np.testing.assert_allclose(items["observation.state"][59:], motion(times + 1), atol=5e-5)
    seen = [read_time(frame) for frame in items["observation.images.top"][:59]]
    assert np.abs(np.array(seen) - times).max() < 1e-3
    assert set(items["tasks"]) == {"reach"}


def test_inspect_proposes_what_convert_takes(tmp_path: Path, capsys) -> None:
    def change(found: list) -> list:
        gripper = [
            ("/gripper_states", r, joint_state(r, [grip((r - START_NS) / NS)], ["finger_joint"]))
            for t, r, _ in found
            if t == "/joint_states"
        ]
        return sorted(unknown_type(found + gripper), key=lambda message: message[1])

    bag = Bag(cameras=(TOP, "/wrist_camera/color/image_raw/compressed"), change=change).write(
        tmp_path / "one"
    )
    rosbag_to_lerobot.main(["--inspect", str(bag)])
    proposed = capsys.readouterr().out
    assert "# /joint_states  sensor_msgs/msg/JointState  250 messages  125" in proposed
    assert "shoulder_lift_joint, elbow_joint" in proposed
    assert "96x64 px, rgb8; jpeg compressed bgr8" in proposed
    assert "# /status  diagnostic_msgs/msg/KeyValue" in proposed
    (tmp_path / "convert.yaml").write_text(proposed)
    config = load_convert_config(tmp_path / "convert.yaml")
    assert config.joints.names == UR_JOINTS
    assert set(config.cameras) == {"top", "wrist_camera"}
    assert config.gripper == GripperConfig("/gripper_states", "finger_joint")
    dataset, _ = converted(bag, tmp_path / "set", config)
    assert len(dataset.cameras) == 2


def test_the_default_configuration_says_the_defaults(tmp_path: Path) -> None:
    config = load_convert_config(ROOT / "python" / "convert.yaml")
    camera = {"top": CameraConfig("/camera/color/image_raw/compressed")}
    assert config == ConvertConfig(task=config.task, cameras=camera)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("fpz=3", "fpz: unknown key; did you mean fps?"),
        ("cameras.top.topik=/a", "cameras.top.topik: unknown key; did you mean topic?"),
        ("fps=0", "fps: 0 must be at least 1"),
        ("task=''", "task: say in words"),
        ("joints.signs=[1, 2, 1, 1, 1, 1]", "joints.signs"),
        ("action.mode=command", "action.topic"),
        ("cameras.top.resize=[31, 32]", "even numbers"),
        ("gripper.joint=a", "gripper"),
    ],
)
def test_a_bad_configuration_is_one_line(override: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_convert_config(ROOT / "python" / "convert.yaml", [override])
    assert message in str(error.value)


def test_folders_are_told_apart(tmp_path: Path, sample_root: Path) -> None:
    Bag(seconds=0.1).write(tmp_path / "day" / "one")
    assert folder_kind(sample_root) == "dataset"
    assert folder_kind(tmp_path) == folder_kind(tmp_path / "day" / "one") == "recordings"
    (tmp_path / "photos").mkdir()
    with pytest.raises(UserError, match="neither"):
        folder_kind(tmp_path / "photos")
    assert STORE is not None
