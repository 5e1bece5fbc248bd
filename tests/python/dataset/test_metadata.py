"""Refusals: every damaged copy of a fixture ends in one line that names the file."""

import json
import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ur10e_act.dataset.dataset_error import DatasetError
from ur10e_act.dataset.frame_reader import probe_video
from ur10e_act.dataset.lerobot_dataset import open_dataset

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
VIDEOS = "h264_deleted_by_lerobot_0_4_4"  # 4 episodes in 2 data files; camera files 0 (AV1) and 1 (h264)
IMAGES = "image_deleted_by_lerobot_0_4_4"
DATA = "data/chunk-000/file-000.parquet"
EPISODES = "meta/episodes/chunk-000/file-000.parquet"
TASKS = "meta/tasks.parquet"
VIDEO = "videos/observation.images.top/chunk-000/file-001.mp4"
INFO = "meta/info.json"


def edit_info(change: Callable[[dict], object]) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        info = json.loads((root / INFO).read_text())
        change(info)
        (root / INFO).write_text(json.dumps(info))

    return damage


def set_info(**values: object) -> Callable[[Path], None]:
    return edit_info(lambda info: info.update(values))


def edit_table(file: str, change: Callable[[pa.Table], pa.Table]) -> Callable[[Path], None]:
    return lambda root: pq.write_table(change(pq.read_table(root / file)), root / file)


def edit_column(file: str, name: str, change: Callable[[list], object]) -> Callable[[Path], None]:
    """``change`` edits the list of the column's values in place."""

    def replace(table: pa.Table) -> pa.Table:
        values = table[name].to_pylist()
        change(values)
        kind = table.schema.field(name).type
        return table.set_column(table.schema.get_field_index(name), name, pa.array(values, kind))

    return edit_table(file, replace)


def at(row: int, value: object, element: int | None = None) -> Callable[[list], None]:
    def change(values: list) -> None:
        if element is None:
            values[row] = value
        else:
            values[row][element] = value

    return change


def cut(file: str, part: float) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        content = (root / file).read_bytes()
        (root / file).write_bytes(content[: int(part * len(content))])

    return damage


def remove(name: str) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        shutil.rmtree(root / name) if (root / name).is_dir() else (root / name).unlink()

    return damage


def remux(
    frames: int | None = None,
    rate: int = 20,
    size: tuple[int, int] | None = None,
    pause: tuple[int, int] = (0, 0),
    b_frames: int = 0,
    mp4: dict[str, str] | None = None,
) -> Callable[[Path], None]:
    """Write the video again: its first ``frames``, at another rate (frames/s), of another (width, height).

    ``pause`` is (frames to wait, before which frame).
    """

    def damage(root: Path) -> None:
        with av.open(str(root / VIDEO)) as container:
            pictures = list(container.decode(video=0))[:frames]
        with av.open(str(root / VIDEO), "w", options=mp4 or {}) as container:
            stream = container.add_stream("libx264", rate=rate, options={"bf": str(b_frames), "g": "30"})
            stream.width, stream.height = size or (pictures[0].width, pictures[0].height)
            for number, picture in enumerate(pictures):
                frame = picture.reformat(stream.width, stream.height, "yuv420p")
                frame.pts, frame.time_base = number, Fraction(1, rate)
                frame.pts += pause[0] if number >= pause[1] else 0
                container.mux(stream.encode(frame))
            container.mux(stream.encode())

    return damage


def as_plain_lists(table: pa.Table, change: Callable[[list], object] = lambda rows: None) -> pa.Table:
    """Vectors as list<float>, as lerobot's merge tool may leave them."""
    for name in ("action", "observation.state"):
        rows = table[name].to_pylist()
        change(rows)
        column = pa.array(rows, pa.list_(pa.float32()))
        table = table.set_column(table.schema.get_field_index(name), name, column)
    return table


shorten_a_row = edit_table(DATA, lambda table: as_plain_lists(table, at(3, [1.0])))


def swap_rows(table: pa.Table) -> pa.Table:
    order = np.arange(len(table))
    order[[3, 4]] = order[[4, 3]]
    return table.take(order)


def rescale_timestamps(table: pa.Table) -> pa.Table:
    values = table["timestamp"].to_numpy() * 2
    return table.set_column(
        table.schema.get_field_index("timestamp"), "timestamp", pa.array(values, pa.float32())
    )


def action(name: str, value: object) -> Callable[[Path], None]:
    return edit_info(lambda info: info["features"]["action"].__setitem__(name, value))


# name: fixture, damage, the file that the message must name, words that it must hold
REFUSED = {
    "no folder": (VIDEOS, lambda root: shutil.rmtree(root), "", "no such directory"),
    "no info": (VIDEOS, remove(INFO), INFO, "missing, so"),
    "info is not JSON": (VIDEOS, cut(INFO, 0.5), INFO, "cannot be read as JSON"),
    "info is a list": (VIDEOS, lambda root: (root / INFO).write_text("[]"), INFO, "not a JSON object"),
    "v2.1": (VIDEOS, set_info(codebase_version="v2.1"), INFO, "convert_dataset_v21_to_v30"),
    "v4.0": (VIDEOS, set_info(codebase_version="v4.0"), INFO, "only v3.0 is read"),
    "no version": (VIDEOS, edit_info(lambda info: info.pop("codebase_version")), INFO, "only v3.0 is read"),
    "fps of text": (VIDEOS, set_info(fps="20"), INFO, "fps is '20'"),
    "fps of a fraction": (VIDEOS, set_info(fps=29.97), INFO, "fps is 29.97"),
    "fps of zero": (VIDEOS, set_info(fps=0), INFO, "fps is 0"),
    "wrong fps": (VIDEOS, set_info(fps=60), INFO, "fps is 60, but the timestamps .* run at 20.00 Hz"),
    "slightly wrong fps": (
        VIDEOS,
        set_info(fps=21),
        INFO,
        "fps is 21, but the timestamps .* run at 20.00 Hz",
    ),
    "wrong fps, images": (IMAGES, set_info(fps=30), INFO, "fps is 30, but the timestamps .* run at 20.00 Hz"),
    "no episodes": (VIDEOS, set_info(total_episodes=0), INFO, "no episode"),
    "count of text": (VIDEOS, set_info(total_frames="many"), INFO, "total_frames is 'many'"),
    "too many episodes": (VIDEOS, set_info(total_episodes=5), INFO, "total_episodes is 5, but .* lists 4"),
    "too few frames": (VIDEOS, set_info(total_frames=114), INFO, "total_frames is 114, but .* lists 115"),
    "no features": (VIDEOS, set_info(features=[]), INFO, "has no features"),
    "no action": (VIDEOS, edit_info(lambda i: i["features"].pop("action")), INFO, "needs a feature action"),
    "no timestamp": (VIDEOS, edit_info(lambda i: i["features"].pop("timestamp")), INFO, "timestamp.*missing"),
    "shape of text": (VIDEOS, action("shape", "5"), INFO, "action has shape '5'"),
    "shape too wide": (VIDEOS, action("shape", [6]), DATA, "action has rows that are not 6 values long"),
    "no dtype": (VIDEOS, action("dtype", None), INFO, "action has no dtype"),
    "camera without size": (
        VIDEOS,
        edit_info(lambda i: i["features"]["observation.images.top"].update(shape=[64, 96])),
        INFO,
        r"camera observation\.images\.top has shape \[64, 96\]",
    ),
    "camera of four channels": (
        VIDEOS,
        edit_info(lambda i: i["features"]["observation.images.top"].update(shape=[64, 96, 4])),
        INFO,
        r"has shape \[64, 96, 4\]",
    ),
    "camera of another size": (
        VIDEOS,
        edit_info(lambda i: i["features"]["observation.images.top"].update(shape=[48, 96, 3])),
        "videos/observation.images.top/chunk-000/file-000.mp4",
        "is 64x96 px, .* says 48x96",
    ),
    "foreign data_path": (VIDEOS, set_info(data_path="/etc/{chunk_index}"), INFO, "data_path '/etc/"),
    "no video_path": (VIDEOS, set_info(video_path=None), INFO, "video_path None"),
    "no data file": (VIDEOS, remove(DATA), DATA, "missing"),
    "cut data file": (VIDEOS, cut(DATA, 0.6), DATA, "cut or damaged"),
    "empty data file": (VIDEOS, cut(DATA, 0), DATA, "cut or damaged"),
    "data without action": (
        VIDEOS,
        edit_table(DATA, lambda t: t.drop(["action"])),
        DATA,
        "column action is mi",
    ),
    "a row too few": (VIDEOS, edit_table(DATA, lambda t: t.slice(1)), DATA, "has 58 rows; .* have 59 frames"),
    "rows out of order": (VIDEOS, edit_table(DATA, swap_rows), DATA, "frame_index departs"),
    "rows of another episode": (
        VIDEOS,
        edit_column(DATA, "episode_index", at(5, 1)),
        DATA,
        "episode_index depa",
    ),
    "index jumps": (VIDEOS, edit_column(DATA, "index", at(5, 500)), DATA, "index departs"),
    "unknown task": (VIDEOS, edit_column(DATA, "task_index", at(5, 9)), DATA, "task_index 9.* has 3 tasks"),
    "time stands still": (VIDEOS, edit_column(DATA, "timestamp", at(5, 0.2)), DATA, "do not ascend"),
    "NaN in time": (VIDEOS, edit_column(DATA, "timestamp", at(5, float("nan"))), DATA, "do not ascend"),
    "no time": (VIDEOS, edit_column(DATA, "timestamp", at(5, None)), DATA, "timestamp has empty rows"),
    "time off the frames": (
        VIDEOS,
        edit_column(DATA, "timestamp", at(5, 0.26)),
        "videos/observation.images.top/chunk-000/file-000.mp4",
        r"no frame at 0\.2600 s for frame 5 of episode 0",
    ),
    "slower than fps": (VIDEOS, edit_table(DATA, rescale_timestamps), INFO, "run at 10.00 Hz"),
    "NaN in an action": (
        VIDEOS,
        edit_column(DATA, "action", at(33, float("nan"), 2)),
        DATA,
        "action of episode 1, frame 2, is nan at elbow",
    ),
    "inf in a state": (
        VIDEOS,
        edit_column(DATA, "observation.state", at(0, float("-inf"), 4)),
        DATA,
        r"observation\.state of episode 0, frame 0, is -inf at gripper",
    ),
    "a value missing": (VIDEOS, edit_column(DATA, "action", at(3, None, 1)), DATA, "action has empty rows"),
    "a row missing": (
        VIDEOS,
        edit_column(DATA, "action", at(3, None)),
        DATA,
        "action has rows that are not 5",
    ),
    "a short row": (
        VIDEOS,
        shorten_a_row,
        DATA,
        "has rows that are not 5",
    ),
    "no episode files": (VIDEOS, remove("meta/episodes"), "meta/episodes", "holds no parquet file"),
    "cut episode file": (VIDEOS, cut(EPISODES, 0.5), EPISODES, "cut or damaged"),
    "an episode missing": (VIDEOS, edit_table(EPISODES, lambda t: t.slice(1)), INFO, "4, but .* lists 3"),
    "an episode twice": (
        VIDEOS,
        edit_column(EPISODES, "episode_index", at(2, 1)),
        "meta/episodes",
        "not numbered",
    ),
    "an episode without length": (
        VIDEOS,
        edit_column(EPISODES, "length", at(2, None)),
        EPISODES,
        "length has emp",
    ),
    "a gap between episodes": (
        VIDEOS,
        edit_column(EPISODES, "dataset_from_index", at(2, 60)),
        "meta/episodes",
        "episode 2 .* has dataset_from_index 60, not 59",
    ),
    "another length": (VIDEOS, edit_column(EPISODES, "length", at(0, 30)), "meta/episodes", "not contiguous"),
    "in the wrong data file": (
        VIDEOS,
        edit_column(EPISODES, "data/file_index", at(1, 1)),
        DATA,
        "59 rows; .* 31",
    ),
    "no start in the video": (
        VIDEOS,
        edit_table(EPISODES, lambda t: t.drop(["videos/observation.images.top/from_timestamp"])),
        EPISODES,
        "from_timestamp is missing",
    ),
    "too short in the video": (
        VIDEOS,
        edit_column(EPISODES, "videos/observation.images.top/to_timestamp", at(3, 2.0)),
        VIDEO,
        "2.000 s of it to episode 3, which has 30 frames",
    ),
    "no tasks": (VIDEOS, remove(TASKS), TASKS, "missing"),
    "tasks without text": (
        VIDEOS,
        edit_table(TASKS, lambda t: t.select(["task_index"])),
        TASKS,
        "neither a column task nor",
    ),
    "tasks numbered wrong": (
        VIDEOS,
        edit_column(TASKS, "task_index", at(0, 7)),
        TASKS,
        "not numbered 0 to 2",
    ),
    "no video": (VIDEOS, remove(VIDEO), VIDEO, "missing"),
    "empty video": (VIDEOS, cut(VIDEO, 0), VIDEO, "cannot be decoded"),
    "cut video": (VIDEOS, cut(VIDEO, 0.7), VIDEO, "cut: "),
    "video too short": (VIDEOS, remux(frames=40), VIDEO, "no frame at 2.0000 s for frame 14 of episode 3"),
    "video of another rate": (VIDEOS, remux(rate=30), VIDEO, "runs at 30.00 frames/s"),
    "video of another size": (VIDEOS, remux(size=(64, 64)), VIDEO, "is 64x64 px, .* says 64x96"),
    "no image bytes": (
        IMAGES,
        edit_column(DATA, "observation.images.top", at(3, None, "bytes")),
        DATA,
        "1 rows of observation.images.top hold no image bytes",
    ),
    "images of text": (
        IMAGES,
        edit_table(
            DATA,
            lambda t: t.set_column(
                t.schema.get_field_index("observation.images.top"),
                "observation.images.top",
                pa.array(["a.png"] * len(t)),
            ),
        ),
        DATA,
        "holds string instead of images",
    ),
    "no image column": (
        IMAGES,
        edit_table(DATA, lambda t: t.drop(["observation.images.top"])),
        DATA,
        r"column observation\.images\.top is missing",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_damaged_datasets_are_refused_with_file_and_reason(tmp_path, name):
    fixture, damage, file, words = REFUSED[name]
    root = Path(shutil.copytree(FIXTURES / fixture, tmp_path / "dataset"))
    damage(root)
    with pytest.raises(DatasetError, match=words) as caught:
        open_dataset([root])
    message = str(caught.value)
    assert message.startswith(f"{root / file}: "), message
    assert "\n" not in message
    assert "; " in message


def test_the_copies_are_good_before_they_are_damaged(tmp_path):
    for fixture in (VIDEOS, IMAGES):
        root = Path(shutil.copytree(FIXTURES / fixture, tmp_path / fixture))
        edit_column(DATA, "task_index", lambda values: None)(root)
        assert open_dataset([root]).num_frames == open_dataset([FIXTURES / fixture]).num_frames
    remux()(tmp_path / VIDEOS)
    open_dataset([tmp_path / VIDEOS])


def test_fragmented_videos_are_read(tmp_path):
    root = Path(shutil.copytree(FIXTURES / VIDEOS, tmp_path / "dataset"))
    remux(mp4={"movflags": "frag_keyframe+empty_moov"})(root)
    dataset = open_dataset([root])
    assert dataset.frames.read("observation.images.top", 3, range(30)).shape == (30, 64, 96, 3)


def test_a_pause_in_a_video_with_b_frames_is_followed(tmp_path):
    # The header's index is in decoding order: there the pause lies between other frames.
    root = Path(shutil.copytree(FIXTURES / VIDEOS, tmp_path / "dataset"))
    before = open_dataset([root])
    camera, first = "observation.images.top", before.episodes[2].length
    right = before.frames.read(camera, 3, range(30)).astype(int)
    remux(pause=(20, first), b_frames=3)(root)
    with pytest.raises(DatasetError, match=f"{VIDEO}: has no frame at"):
        open_dataset([root])
    for end in ("from_timestamp", "to_timestamp"):
        later = pq.read_table(root / EPISODES)[f"videos/{camera}/{end}"][3].as_py() + 1
        edit_column(EPISODES, f"videos/{camera}/{end}", at(3, later))(root)
    assert not np.array_equal(probe_video(root / VIDEO).frame_s, probe_video(root / VIDEO, True).frame_s)
    found = open_dataset([root]).frames.read(camera, 3, range(30))
    assert np.abs(found - right).mean() < 8 < np.abs(found - np.roll(right, 1, axis=0)).mean()


def test_a_damaged_image_is_told_with_file_and_row(tmp_path):
    root = Path(shutil.copytree(FIXTURES / IMAGES, tmp_path / "dataset"))
    edit_column(DATA, "observation.images.top", at(3, b"\x89PNG nothing", "bytes"))(root)
    dataset = open_dataset([root])
    dataset.frames.read("observation.images.top", 0, [2])
    with pytest.raises(DatasetError, match="file-000.parquet: the image in row 3 of observation.images.top"):
        dataset.frames.read("observation.images.top", 0, [3])


def test_damaged_pages_are_noticed_where_the_file_has_checksums(tmp_path):
    root = Path(shutil.copytree(FIXTURES / VIDEOS, tmp_path / "dataset"))
    table = pq.read_table(root / DATA)
    options = {"compression": "none", "use_dictionary": False, "write_page_checksum": True}
    pq.write_table(table, root / DATA, **options)
    open_dataset([root])
    content = bytearray((root / DATA).read_bytes())
    place = content.find(table["action"][10].values.to_numpy().tobytes())
    assert place > 0
    content[place] ^= 1
    (root / DATA).write_bytes(content)
    with pytest.raises(DatasetError, match=f"{DATA}: cut or damaged"):
        open_dataset([root])


def test_vectors_may_be_plain_lists_or_of_one_value(tmp_path):
    root = Path(shutil.copytree(FIXTURES / VIDEOS, tmp_path / "dataset"))
    before = open_dataset([root])
    for file in ("file-000", "file-001"):
        edit_table(f"data/chunk-000/{file}.parquet", as_plain_lists)(root)
    after = open_dataset([root])
    for episode in range(4):
        assert np.array_equal(after.read_states(episode), before.read_states(episode))
        assert np.array_equal(after.read_actions(episode), before.read_actions(episode))

    def first_value(table: pa.Table) -> pa.Table:
        # LeRobot writes features of shape [1] as plain columns.
        column = pa.array([row[0] for row in table["action"].to_pylist()], pa.float32())
        return table.set_column(table.schema.get_field_index("action"), "action", column)

    for file in ("file-000", "file-001"):
        edit_table(f"data/chunk-000/{file}.parquet", first_value)(root)
    edit_info(lambda info: info["features"]["action"].update(shape=[1], names=None))(root)
    after = open_dataset([root])
    assert after.action_names == ("0",)
    for episode in range(4):
        assert np.array_equal(after.read_actions(episode), before.read_actions(episode)[:, :1])


@pytest.mark.parametrize(
    "names", [{"motors": ["a", "b", "c", "d", "e"]}, {"a": 0, "b": 1, "c": 2, "d": 3, "e": 4}, list("abcde")]
)
def test_joint_names_come_as_lists_or_tables(tmp_path, names):
    root = Path(shutil.copytree(FIXTURES / VIDEOS, tmp_path / "dataset"))
    action("names", names)(root)
    assert open_dataset([root]).action_names == ("a", "b", "c", "d", "e")
