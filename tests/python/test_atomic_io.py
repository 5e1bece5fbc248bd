"""atomic_io.py: a file is there whole or not at all."""

from pathlib import Path

import pytest

from ur10e_act.atomic_io import sync_tree, write_file


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
