"""The error for a dataset that cannot be used."""

from __future__ import annotations

from pathlib import Path

from ur10e_act.errors import UserError


class DatasetError(UserError):
    """A dataset that cannot be used; the message is one line and names the file and the remedy."""


def damaged(path: Path, what: str) -> DatasetError:
    """The error for a file that is not what it was when it was written."""
    return DatasetError(f"{path}: {what}; copy it again from where it was recorded, or record it again")
