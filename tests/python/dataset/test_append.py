"""append.py: episodes that are added later give the same files as those written at once."""

from pathlib import Path

import numpy as np
from bags import clock_image, frames_of, motion, read_time
from conversions import digests

from ur10e_act.dataset.append import DatasetExtender
from ur10e_act.dataset.features import ACTION, CAMERA_PREFIX, STATE
from ur10e_act.dataset.lerobot_dataset import open_dataset
from ur10e_act.dataset.writer import DatasetWriter

CAMERA = CAMERA_PREFIX + "top"
JOINTS = {"dtype": "float32", "shape": [6], "names": [f"joint{number}" for number in range(6)]}
FEATURES = {
    STATE: JOINTS,
    ACTION: JOINTS,
    CAMERA: {"dtype": "video", "shape": [64, 96, 3], "names": ["height", "width", "channels"]},
}
# Several files of each kind, of which the last continues.
LIMITS = {"data_file_size_bytes": 11_000, "video_file_size_bytes": 60_000}
TIMES = np.arange(59) / 30


def add(writer: DatasetWriter, first: int, last: int) -> DatasetWriter:
    with writer:
        for number in range(first, last):
            columns = {STATE: motion(TIMES + number), ACTION: motion(TIMES + number + 1 / 30)}
            images = {CAMERA: [clock_image(t) for t in TIMES]}
            writer.add_episode(columns, images, "reach")
    return writer


def test_files_roll_over_the_same_way_when_episodes_are_added(tmp_path: Path) -> None:
    arguments = (tmp_path / "set", 30, "ur10e", FEATURES)
    writer = add(DatasetWriter(*arguments, **LIMITS), 0, 1)
    for first in (1, 3):
        writer = add(DatasetExtender(*arguments, writer.image_counts, **LIMITS), first, first + 2)
    add(DatasetWriter(tmp_path / "once", *arguments[1:], **LIMITS), 0, 5)
    found = digests(tmp_path / "set")
    assert found == digests(tmp_path / "once")
    assert sum(name.endswith(".mp4") for name in found) > 1
    assert sum("data/" in name for name in found) > 1
    dataset = open_dataset([tmp_path / "set"])
    for number in range(5):
        np.testing.assert_allclose(dataset.read_states(number), motion(TIMES + number), atol=5e-5)
        np.testing.assert_allclose(dataset.read_actions(number), motion(TIMES + number + 1 / 30), atol=5e-5)
        seen = [read_time(frame) for frame in frames_of(dataset, CAMERA, number)]
        np.testing.assert_allclose(seen, TIMES, atol=1e-3)
