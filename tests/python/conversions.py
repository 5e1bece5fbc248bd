"""What tests of the conversion have in common: a configuration, and what must come of a Bag."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from bags import Bag, frames_of, motion, read_time
from rosbags.rosbag2 import StoragePlugin

from rosbag_to_lerobot import Options, convert
from ur10e_act.dataset.lerobot_dataset import open_dataset
from ur10e_act.errors import UserError
from ur10e_act.recordings.convert_config import CameraConfig, ConvertConfig

TOP = "/top/image_raw/compressed"


CONFIG = ConvertConfig(task="reach", cameras={"top": CameraConfig(TOP)})


MCAP, SQLITE = StoragePlugin.MCAP, StoragePlugin.SQLITE3


FIRST_S = 0.004  # of Bag's images, and so of the rows


def options(**changes) -> Options:
    return Options(**({"workers": 1} | changes))


def converted(bags: Path, output: Path, config: ConvertConfig = CONFIG, **changes):
    """The dataset, and conversion.json."""
    report = convert(bags, output, config, options(**changes))
    assert report == json.loads((output / "conversion.json").read_text())
    return open_dataset([output]), report


def check(dataset, episode: int = 0, offset_s: float = 0.0, fps: int = 30) -> None:
    """States and actions are those of the motion at the rows' times, and so are the images."""
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


def assert_left_out(
    bag: Bag, spoil: Callable[[Path], object] | None, code: str, tmp_path: Path, capsys
) -> None:
    """Of a good recording and a spoiled one, the good one alone is converted; --strict refuses both."""
    good, bad = Bag(), bag.write(tmp_path / "bags" / "bad")
    good.write(tmp_path / "bags" / "good")
    if spoil is not None:
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
