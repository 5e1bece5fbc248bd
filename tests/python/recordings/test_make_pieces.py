"""make_pieces.py: what a killed run has made is not made again."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from bags import NS, START_NS, Bag
from conftest import ROOT
from conversions import TOP, converted, digests

from ur10e_act.errors import UserError
from ur10e_act.recordings.make_pieces import locked_pieces


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


def test_one_process_at_a_time(tmp_path: Path) -> None:
    with (
        locked_pieces(tmp_path / "set") as pieces,
        pytest.raises(UserError, match="another process is converting"),
        locked_pieces(tmp_path / "set"),
    ):
        pass
    assert not pieces.exists()
