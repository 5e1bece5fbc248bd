"""rosbag_to_lerobot.py: recordings to datasets, again and again."""

import hashlib
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from bags import NS, START_NS, Bag, motion, read_time, without_metadata
from conftest import ROOT
from conversions import CONFIG, FIRST_S, check, converted, digests, options

from rosbag_to_lerobot import convert
from ur10e_act.errors import UserError
from ur10e_act.recordings.convert_config import ConvertConfig


def test_nothing_usable_writes_nothing(tmp_path: Path) -> None:
    without_metadata(Bag().write(tmp_path / "bags" / "one"))
    with pytest.raises(UserError, match="none of 1 recordings"):
        convert(tmp_path / "bags", tmp_path / "set", CONFIG, options())
    assert not (tmp_path / "set").exists()


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
