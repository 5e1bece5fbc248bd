"""writer.py: what it writes is read back by the project's reader and by two versions of lerobot."""

import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from conftest import ROOT
from written_dataset import (
    CAMERAS,
    FPS,
    LENGTHS,
    ROLLED,
    TASKS,
    columns,
    features,
    pictures,
    write,
)

from ur10e_act.dataset.lerobot_dataset import ChunkDataset, open_dataset
from ur10e_act.dataset.writer import DatasetWriteError, DatasetWriter


def digests(root: Path) -> dict[str, str]:
    files = (path for path in sorted(root.rglob("*")) if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def psnr(actual: np.ndarray, expected: np.ndarray) -> float:
    """dB"""
    return 10 * np.log10(255**2 / np.mean((actual.astype(float) - expected) ** 2))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("written") / "dataset")


@pytest.mark.parametrize("options", [{}, {"video_codec": "av1"}], ids=["h264", "av1"])
def test_reader_gives_what_was_written(tmp_path: Path, options: dict) -> None:
    dataset = open_dataset([write(tmp_path / "dataset", **options)])
    assert (dataset.fps, dataset.robot_type, dataset.cameras) == (FPS, "ur10e", CAMERAS)
    assert dataset.state_names == dataset.action_names == ("shoulder", "elbow", "gripper")
    assert [episode.length for episode in dataset.episodes] == list(LENGTHS)
    assert [episode.tasks for episode in dataset.episodes] == [(task,) for task in TASKS]
    for episode, length in enumerate(LENGTHS):
        np.testing.assert_array_equal(dataset.read_states(episode), columns(episode)["observation.state"])
        np.testing.assert_array_equal(dataset.read_actions(episode), columns(episode)["action"])
        np.testing.assert_array_equal(
            dataset.read_timestamps(episode), (np.arange(length) / FPS).astype(np.float32)
        )
        for camera in CAMERAS:
            read = dataset.frames.read(camera, episode, list(reversed(range(length))))[::-1]
            expected = pictures(episode, camera)
            assert psnr(read, expected) > 35
            # Each image is that frame's, not its neighbour's.
            difference = np.abs(read[:, None].astype(int) - expected[None])[:, :, 16:48, 32:64].mean(
                (2, 3, 4)
            )
            np.testing.assert_array_equal(difference.argmin(1), np.arange(length))
    assert len(ChunkDataset(dataset, [0, 1, 2, 3], chunk_size=4)) == sum(LENGTHS)


def test_same_input_gives_the_same_dataset(written: Path, tmp_path: Path) -> None:
    again = write(tmp_path / "again")
    assert digests(written) == digests(again)


def test_files_roll_over_by_size_each_kind_for_itself(tmp_path: Path) -> None:
    root = write(tmp_path / "dataset", **ROLLED)
    table = pq.read_table(root / "meta" / "episodes").to_pydict()
    numbers = {"data": table["data/file_index"]} | {c: table[f"videos/{c}/file_index"] for c in CAMERAS}
    for kind, files in numbers.items():
        assert files == sorted(files) and 1 <= files[-1] < len(LENGTHS) - 1, (kind, files)
    assert numbers["data"] != numbers[CAMERAS[0]], numbers
    for camera, files in ((camera, numbers[camera]) for camera in CAMERAS):
        for episode in range(len(LENGTHS)):
            first = episode == 0 or files[episode] != files[episode - 1]
            start = table[f"videos/{camera}/from_timestamp"][episode]
            assert start == (0.0 if first else table[f"videos/{camera}/to_timestamp"][episode - 1])
    dataset = open_dataset([root])
    for episode in range(len(LENGTHS)):
        np.testing.assert_array_equal(dataset.read_actions(episode), columns(episode)["action"])
        for camera in CAMERAS:
            frames = dataset.frames.read(camera, episode, range(LENGTHS[episode]))
            assert psnr(frames, pictures(episode, camera)) > 35


def failing(frames: np.ndarray) -> Iterator[np.ndarray]:
    yield from frames[:3]
    raise OSError("the camera's file ends here")


BAD_EPISODES = {
    "an image source that fails midway": lambda c, i: i.update({CAMERAS[1]: failing(i[CAMERAS[1]])}),
    "too few images": lambda c, i: i.update({CAMERAS[0]: i[CAMERAS[0]][:-1]}),
    "too many images": lambda c, i: i.update({CAMERAS[0]: [*i[CAMERAS[0]], i[CAMERAS[0]][0]]}),
    "float images": lambda c, i: i.update({CAMERAS[0]: i[CAMERAS[0]] / 255}),
    "a missing camera": lambda c, i: i.pop(CAMERAS[0]),
    "an unknown column": lambda c, i: c.update(velocity=c["action"]),
    "another width": lambda c, i: c.update(action=c["action"][:, :2]),
    "another length": lambda c, i: c.update(action=c["action"][1:]),
    "NaN": lambda c, i: c["action"].__setitem__((4, 1), np.nan),
}


@pytest.mark.parametrize("spoil", BAD_EPISODES.values(), ids=BAD_EPISODES.keys())
def test_a_bad_episode_leaves_nothing(tmp_path: Path, spoil) -> None:
    root = tmp_path / "dataset"
    bad, images = columns(1), {camera: pictures(1, camera) for camera in CAMERAS}
    spoil(bad, images)
    with (
        pytest.raises((DatasetWriteError, OSError)) as error,
        DatasetWriter(root, FPS, "ur10e", features()) as writer,
    ):
        writer.add_episode(columns(0), {camera: pictures(0, camera) for camera in CAMERAS}, "reach")
        assert not root.exists()
        writer.add_episode(bad, images, "reach")
    assert list(tmp_path.iterdir()) == []
    assert isinstance(error.value, OSError) or "dataset, episode 1" in str(error.value)
    with pytest.raises(DatasetWriteError, match="closed"):
        writer.add_episode(columns(0), {}, "reach")


def test_an_existing_folder_is_left_alone(written: Path, tmp_path: Path) -> None:
    before = digests(written)
    with pytest.raises(DatasetWriteError, match="exists already"):
        DatasetWriter(written, FPS, "ur10e", features())
    with pytest.raises(OSError), DatasetWriter(written, FPS, "ur10e", features(), overwrite=True) as writer:
        writer.add_episode(columns(0), {camera: failing(pictures(0, camera)) for camera in CAMERAS}, "reach")
    assert digests(written) == before
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "mine.jpg").touch()
    with pytest.raises(DatasetWriteError, match="not a LeRobot dataset"):
        DatasetWriter(tmp_path / "photos", FPS, "ur10e", features(), overwrite=True)


def test_overwrite_replaces_the_older_dataset(tmp_path: Path) -> None:
    root = write(tmp_path / "dataset")
    with DatasetWriter(root, FPS, "ur10e", features(), overwrite=True) as writer:
        writer.add_episode(columns(0), {camera: pictures(0, camera) for camera in CAMERAS}, "reach")
    assert len(open_dataset([root]).episodes) == 1
    assert list(tmp_path.iterdir()) == [root]


def test_two_writers_do_not_share_a_target(tmp_path: Path) -> None:
    first = DatasetWriter(tmp_path / "dataset", FPS, "ur10e", features())
    with pytest.raises(DatasetWriteError, match="another process"):
        DatasetWriter(tmp_path / "dataset", FPS, "ur10e", features())
    with pytest.raises(DatasetWriteError, match="at least one episode"):
        first.close()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_writer_left_is_cleared_by_the_next(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; sys.path[:0] = sys.argv[2:]\n"
        "from test_writer import *\n"
        "writer = DatasetWriter(sys.argv[1], FPS, 'ur10e', features())\n"
        "writer.add_episode(columns(0), {camera: pictures(0, camera) for camera in CAMERAS}, 'reach')\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    paths = [Path(__file__).parent, ROOT / "tests" / "python", ROOT / "python"]
    killed = subprocess.run([sys.executable, "-c", code, tmp_path / "dataset", *paths], capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert [path.name for path in tmp_path.iterdir()] == [".dataset.partial"]
    write(tmp_path / "dataset")
    assert [path.name for path in tmp_path.iterdir()] == ["dataset"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"action": {"dtype": "video", "shape": (63, 64, 3)}}, "even"),
        ({"action": {"dtype": "float32", "shape": (2,), "names": ["one"]}}, "1 names for 2 values"),
        ({"index": {"dtype": "int64", "shape": (1,)}}, "taken"),
    ],
)
def test_features_that_cannot_be_written_are_refused(tmp_path: Path, change: dict, message: str) -> None:
    with pytest.raises(DatasetWriteError, match=message):
        DatasetWriter(tmp_path / "dataset", FPS, "ur10e", features() | change)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_lerobot_reads_and_edits_it(later_lerobot: tuple[str, str], tmp_path: Path) -> None:
    _, python = later_lerobot
    root = write(tmp_path / "dataset", **ROLLED)
    script = ROOT / "tests" / "reference" / "use_dataset.py"
    subprocess.run(
        [python, script, root, tmp_path], check=True, env=os.environ | {"HF_HOME": str(tmp_path / "hf")}
    )

    items = np.load(tmp_path / "items.npz")
    ours = open_dataset([root])
    samples = ChunkDataset(ours, range(len(LENGTHS)), chunk_size=items["action"].shape[1])
    assert len(samples) == len(items["index"])
    for number in range(len(samples)):
        sample = samples[number]
        for name in (
            "observation.state",
            "action",
            "action_is_pad",
            "timestamp",
            "episode_index",
            "task_index",
        ):
            np.testing.assert_array_equal(items[name][number], sample[name].numpy(), err_msg=name)
        for camera in CAMERAS:
            difference = items[camera][number].astype(int) - sample[camera].numpy().transpose(1, 2, 0)
            assert np.abs(difference).max() <= 1
    assert items["tasks"].tolist() == [
        task for task, length in zip(TASKS, LENGTHS, strict=True) for _ in range(length)
    ]
    assert items[f"stats/{CAMERAS[0]}/std"].shape == (3, 1, 1)

    for name, episodes in (("deleted", (1, 2, 3)), ("merged", (0, 1, 2, 3, 0, 1, 2, 3))):
        edited = open_dataset([tmp_path / name])
        for number, episode in enumerate(episodes):
            np.testing.assert_array_equal(edited.read_states(number), columns(episode)["observation.state"])
            assert edited.episodes[number].tasks == (TASKS[episode],)
            for camera in CAMERAS:
                frames = edited.frames.read(camera, number, range(LENGTHS[episode]))
                assert psnr(frames, pictures(episode, camera)) > 30
