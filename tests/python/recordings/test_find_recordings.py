"""find_recordings.py: what a directory holds."""

from pathlib import Path

import pytest
from bags import STORE, Bag

from ur10e_act.errors import UserError
from ur10e_act.recordings.find_recordings import folder_kind


def test_folders_are_told_apart(tmp_path: Path, sample_root: Path) -> None:
    Bag(seconds=0.1).write(tmp_path / "day" / "one")
    assert folder_kind(sample_root) == "dataset"
    assert folder_kind(tmp_path) == folder_kind(tmp_path / "day" / "one") == "recordings"
    (tmp_path / "photos").mkdir()
    with pytest.raises(UserError, match="neither"):
        folder_kind(tmp_path / "photos")
    assert STORE is not None
