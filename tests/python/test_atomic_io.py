"""atomic_io.py: a file or directory is there whole or not at all, and a lock has one holder."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ur10e_act.atomic_io import Lock, exchange, replace_directory, sync_tree, write_file


def test_a_file_is_replaced_and_nothing_stays_beside_it(tmp_path: Path) -> None:
    write_file(tmp_path / "a", b"one")
    write_file(tmp_path / "a", b"two")
    assert (tmp_path / "a").read_bytes() == b"two"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_refused_write_leaves_the_old_file_alone(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(OSError):
        write_file(tmp_path / "a", b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_tree_is_flushed_before_its_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "c").touch()
    flushed = []
    monkeypatch.setattr("ur10e_act.atomic_io.sync", flushed.append)
    sync_tree(tmp_path)
    assert flushed == [tmp_path / "b" / "c", tmp_path / "b", tmp_path]


@pytest.fixture(params=[True, False], ids=["exchange", "two renames"])
def exchanges(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the file system can exchange two names: a test runs with both."""
    if not request.param:
        monkeypatch.setattr("ur10e_act.atomic_io.exchange", lambda first, second: False)
    return request.param


def directory(path: Path, content: str) -> Path:
    path.mkdir()
    (path / "file").write_text(content)
    return path


def test_exchange_swaps_what_two_names_mean(tmp_path: Path) -> None:
    first, second = directory(tmp_path / "first", "1"), directory(tmp_path / "second", "2")
    assert exchange(first, second)
    assert ((first / "file").read_text(), (second / "file").read_text()) == ("2", "1")
    assert not exchange(first, tmp_path / "missing")
    assert (first / "file").read_text() == "2"


@pytest.mark.usefixtures("exchanges")
def test_a_directory_gets_a_name_that_nothing_had(tmp_path: Path) -> None:
    new = directory(tmp_path / "new", "1")
    replace_directory(new, tmp_path / "target", tmp_path / "old", before_gap=pytest.fail)
    assert [path.name for path in tmp_path.iterdir()] == ["target"]
    assert (tmp_path / "target" / "file").read_text() == "1"


def test_a_directory_is_replaced_and_nothing_stays_beside_it(tmp_path: Path, exchanges: bool) -> None:
    target, old = directory(tmp_path / "target", "1"), directory(tmp_path / "old", "left by a killed one")
    seen = []
    replace_directory(
        directory(tmp_path / "new", "2"), target, old, lambda: seen.append((target / "file").read_text())
    )
    assert [path.name for path in tmp_path.iterdir()] == ["target"]
    assert (target / "file").read_text() == "2"
    # Called while the former one is still there, and only where the name will be missing for a moment.
    assert seen == ([] if exchanges else ["1"])


def test_a_replaced_directory_is_whole_whenever_somebody_looks(
    tmp_path: Path, exchanges: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looked at between all steps; without exchange the name is missing once, between the two renames."""
    target, new = directory(tmp_path / "target", "1"), directory(tmp_path / "new", "2")
    rename, found = os.rename, []

    def look(source: Path, destination: Path) -> None:
        rename(source, destination)
        found.append((target / "file").read_text() if target.exists() else None)

    monkeypatch.setattr(os, "rename", look)
    replace_directory(new, target, tmp_path / "old")
    assert found == (["2"] if exchanges else [None, "2"])


def test_a_failed_replacement_leaves_the_former_directory(tmp_path: Path) -> None:
    target = directory(tmp_path / "target", "1")
    with pytest.raises(OSError):
        replace_directory(tmp_path / "missing", tmp_path / "other", tmp_path / "old")
    assert (target / "file").read_text() == "1"


HOLD = """
import sys
from pathlib import Path
from ur10e_act.atomic_io import Lock

lock = Lock(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_a_lock_has_one_holder_at_a_time(tmp_path: Path) -> None:
    lock = Lock(tmp_path)
    with pytest.raises(BlockingIOError):
        Lock(tmp_path)
    lock.release()
    Lock(tmp_path).release()


def test_a_lock_is_waited_for_and_ends_with_its_process(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(BlockingIOError):
            Lock(tmp_path)
        said = []

        def told() -> None:
            said.append("wait")
            threading.Timer(0.2, holder.kill).start()

        Lock(tmp_path, told).release()
    finally:
        holder.kill()
        holder.wait()
        holder.stdin.close()
        holder.stdout.close()
    assert said == ["wait"]


def test_a_lock_that_is_refused_leaves_no_file_open(tmp_path: Path) -> None:
    lock = Lock(tmp_path)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(BlockingIOError):
        Lock(tmp_path)
    assert len(os.listdir("/proc/self/fd")) == before
    lock.release()
