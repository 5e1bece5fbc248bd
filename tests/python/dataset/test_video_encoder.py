"""video_encoder.py: any frame is decoded with at most one other."""

from pathlib import Path

import av
import pytest
from written_dataset import CAMERAS, FPS, LENGTHS, write


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("written") / "dataset")


def test_every_second_frame_of_every_episode_is_a_key_frame_and_none_is_reordered(written: Path) -> None:
    path = written / "videos" / CAMERAS[0] / "chunk-000" / "file-000.mp4"
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        packets = [packet for packet in container.demux(stream) if packet.pts is not None]
        assert [packet.pts for packet in packets] == [packet.dts for packet in packets]
        times = [packet.pts * stream.time_base for packet in packets]
    assert [round(time * FPS) for time in times] == list(range(sum(LENGTHS)))
    expected = [frame % 2 == 0 for length in LENGTHS for frame in range(length)]
    assert [packet.is_keyframe for packet in packets] == expected
