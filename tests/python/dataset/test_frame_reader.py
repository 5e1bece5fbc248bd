"""Frames: every codec read in any order equals plain decoding, with few seeks, in any process."""

import os
import pickle
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from torch.utils.data import DataLoader, Dataset

from ur10e_act.dataset import frame_reader as frames_module
from ur10e_act.dataset.dataset_error import DatasetError
from ur10e_act.dataset.frame_reader import DatasetFrames, VideoSegment, probe_video
from ur10e_act.dataset.resize import resize_frames

FPS = 20
# name: codec and encoder options; B-frames and scene cuts come from x264's and x265's defaults
CODECS = {
    "av1": ("libsvtav1", {"preset": "12", "g": "2"}),
    "h264-one-gop": ("libx264", {"g": "250"}),
    "h264-open-gop": ("libx264", {"x264-params": "open-gop=1:keyint=12:min-keyint=4:bframes=3"}),
    "hevc-open-gop": ("libx265", {"x265-params": "open-gop=1:keyint=12:bframes=4:log-level=none"}),
    "h264-no-b": ("libx264", {"g": "5", "bf": "0"}),
}


def write_video(
    path: Path, codec: str, options: dict[str, str], count: int = 48, mp4: dict | None = None
) -> None:
    """An mp4 whose frames differ from their neighbours, with a scene cut."""
    with av.open(str(path), "w", options=mp4 or {}) as container:
        stream = container.add_stream(codec, rate=FPS, options=options)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for number in range(count):
            _y, x = np.mgrid[:64, :96]
            red = 127 + 120 * np.sin((x + 9 * number + (200 if number > 20 else 0)) / 15)
            blue = np.where((number >> (x // 12)) & 1, 230, 20)
            picture = np.stack([red, np.roll(red, number, axis=0), blue], axis=2).astype(np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def decode_all(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def reader(*paths: Path, count: int = 48, start_s: float = 0.0, image_size=None) -> DatasetFrames:
    """Each file as one episode of the camera "top"."""
    videos = [probe_video(path) for path in paths]
    segments = [VideoSegment(video.path, start_s, 1 / FPS, video.keyframe_s) for video in videos]
    timestamps = [(np.arange(count) / FPS).astype(np.float32) for _ in paths]
    return DatasetFrames({"top": segments}, timestamps, {"top": (64, 96)}, image_size)


@pytest.fixture(scope="module")
def videos(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("videos")
    paths = {name: folder / f"{name}.mp4" for name in CODECS}
    for name, (codec, options) in CODECS.items():
        write_video(paths[name], codec, options)
    return paths


@pytest.fixture
def seeks(monkeypatch) -> list[float]:
    """The times that decoders seek to."""
    times: list[float] = []
    seek = frames_module._VideoDecoder._seek
    monkeypatch.setattr(
        frames_module._VideoDecoder,
        "_seek",
        lambda self, wanted_s: (times.append(wanted_s), seek(self, wanted_s)),
    )
    return times


@pytest.mark.parametrize("name", CODECS)
def test_any_order_equals_plain_decoding(videos, name):
    right = decode_all(videos[name])
    assert len(right) == 48
    assert (np.abs(np.diff(right.astype(int), axis=0)).max(axis=(1, 2, 3)) > 50).all()
    frames = reader(videos[name])
    order = np.random.default_rng(0).permutation(np.tile(np.arange(48), 3))
    for number in order:
        assert np.array_equal(frames.read("top", 0, [number])[0], right[number]), number
    for wanted in ([5, 3, 3, 47, 0], range(10, 30), [46, 47], []):
        assert np.array_equal(frames.read("top", 0, wanted), right[list(wanted)])


@pytest.mark.parametrize("name", CODECS)
def test_sequential_reading_never_seeks(videos, name, seeks):
    frames = reader(videos[name])
    for number in range(48):
        frames.read("top", 0, [number])
    frames.read("top", 0, [47])
    assert len(seeks) == 1


def test_a_frame_far_ahead_is_sought_and_one_in_the_same_gop_is_not(videos, seeks):
    frames = reader(videos["h264-no-b"])
    frames.read("top", 0, [0])
    frames.read("top", 0, [40])
    assert len(seeks) == 2
    frames = reader(videos["h264-one-gop"])
    seeks.clear()
    for number in (30, 33, 47):
        frames.read("top", 0, [number])
    assert len(seeks) == 1


def test_the_episode_starts_where_its_row_says(videos):
    frames = reader(videos["h264-open-gop"], count=20, start_s=1.0)
    assert np.array_equal(frames.read("top", 0, [0, 19]), decode_all(videos["h264-open-gop"])[[20, 39]])


def test_a_time_between_two_frames_is_refused_with_file_and_time(videos):
    frames = reader(videos["av1"], start_s=0.02)
    with pytest.raises(
        DatasetError, match=r"av1\.mp4: no frame within 0.0001 s of 0\.1200 s, the nearest is at 0\.1"
    ):
        frames.read("top", 0, [2])
    with pytest.raises(DatasetError, match=r"of 2\.3700 s, the nearest is at 2\.35"):
        frames.read("top", 0, [47])
    with pytest.raises(IndexError, match="0 to 47"):
        frames.read("top", 0, [48])


def test_open_files_are_bounded(videos, monkeypatch):
    monkeypatch.setattr(frames_module, "MAX_OPEN_FILES", 2)
    paths = list(videos.values())
    frames = reader(*paths)
    opened = len(os.listdir("/proc/self/fd"))
    for episode in range(len(paths)):
        assert np.array_equal(frames.read("top", episode, [7])[0], decode_all(paths[episode])[7])
    assert len(os.listdir("/proc/self/fd")) <= opened + 2


class FramesOf(Dataset):
    """Frames with the process that read them."""

    def __init__(self, frames: DatasetFrames) -> None:
        self.frames = frames

    def __len__(self) -> int:
        return 48

    def __getitem__(self, number: int):
        return os.getpid(), number, self.frames.read("top", 0, [number])[0]


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_read_with_files_of_their_own(videos, context):
    frames = reader(videos["h264-open-gop"])
    right = decode_all(videos["h264-open-gop"])
    frames.read("top", 0, [11])  # open here, in the middle of a file: workers must not share that position
    loader = DataLoader(
        FramesOf(frames), batch_size=None, shuffle=True, num_workers=2, multiprocessing_context=context
    )
    processes = set()
    for process, number, picture in loader:
        processes.add(process)
        assert np.array_equal(picture, right[number])
        assert np.array_equal(frames.read("top", 0, [47 - number])[0], right[47 - number])
    assert len(processes) == 2
    assert os.getpid() not in processes


def test_a_pickle_holds_no_open_file(videos):
    frames = reader(videos["av1"])
    before = frames.read("top", 0, [3])
    assert np.array_equal(pickle.loads(pickle.dumps(frames)).read("top", 0, [3]), before)


@pytest.mark.parametrize("name", CODECS)
def test_probe_agrees_with_demuxing(videos, name):
    quick, full = probe_video(videos[name]), probe_video(videos[name], demux_all=True)
    assert np.allclose(quick.frame_s, np.arange(48) / FPS, atol=1e-6)
    assert np.array_equal(quick.frame_s, full.frame_s)
    assert np.array_equal(quick.keyframe_s, full.keyframe_s)
    assert (quick.height, quick.width) == (64, 96)


def test_a_fragmented_file_is_probed_and_read(tmp_path):
    path = tmp_path / "fragmented.mp4"
    write_video(path, "libx264", {"g": "8"}, mp4={"movflags": "frag_keyframe+empty_moov"})
    video, right = probe_video(path, demux_all=True), decode_all(path)
    assert len(video.frame_s) == 48
    assert len(video.keyframe_s) >= 6
    # Such files shift the first frame by the reordering delay; times, not counts, say which frame is which.
    frames = reader(path, start_s=float(video.frame_s[0]))
    for number in (40, 3, 47, 0):
        assert np.array_equal(frames.read("top", 0, [number])[0], right[number])


def test_a_cut_file_is_noticed_wherever_its_index_lies(tmp_path):
    for place, flags in (("end", ""), ("start", "faststart")):
        path = tmp_path / f"{place}.mp4"
        write_video(path, "libx264", {}, mp4={"movflags": flags} if flags else {})
        size = path.stat().st_size
        for part in (0.02, 0.5, 0.999):
            cut = tmp_path / f"{place}-{part}.mp4"
            cut.write_bytes(path.read_bytes()[: int(size * part)])
            with pytest.raises(DatasetError, match=rf"{place}-{part}\.mp4: cut: .* bytes are left of"):
                probe_video(cut)


def test_files_that_cannot_be_decoded_are_noticed(tmp_path, videos):
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(DatasetError, match=r"text\.mp4: cannot be decoded as video"):
        probe_video(tmp_path / "text.mp4")
    with pytest.raises(DatasetError, match=r"absent\.mp4: missing"):
        probe_video(tmp_path / "absent.mp4")
    with av.open(str(videos["h264-no-b"])) as container:
        last = [e for e in container.streams.video[0].index_entries if e.is_keyframe][-1]
    damaged = bytearray(videos["h264-no-b"].read_bytes())
    damaged[last.pos : last.pos + last.size] = b"\xff" * last.size
    (tmp_path / "tail.mp4").write_bytes(damaged)
    with pytest.raises(DatasetError, match=r"tail\.mp4: (cannot be decoded|its last frames)"):
        probe_video(tmp_path / "tail.mp4")


def test_damage_in_the_middle_is_told_with_file_and_time(tmp_path, videos):
    with av.open(str(videos["av1"])) as container:
        entries = container.streams.video[0].index_entries
        keyframe = [e for e in entries if e.is_keyframe][10]
        number = [e.pos for e in entries].index(keyframe.pos)
    content = bytearray(videos["av1"].read_bytes())
    content[keyframe.pos : keyframe.pos + keyframe.size] = b"\xff" * keyframe.size
    path = tmp_path / "middle.mp4"
    path.write_bytes(content)
    frames = reader(path)
    with pytest.raises(DatasetError, match=rf"middle\.mp4: .*{number / FPS:.3f} s"):
        frames.read("top", 0, [number])
    assert np.array_equal(frames.read("top", 0, [3])[0], decode_all(videos["av1"])[3])


def test_frames_are_resized_as_asked_for(videos):
    right = resize_frames(decode_all(videos["av1"])[:3], (32, 48))
    frames = reader(videos["av1"], image_size=(32, 48))
    assert np.array_equal(frames.read("top", 0, [0, 1, 2]), right)
