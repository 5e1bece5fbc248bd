"""Files and folders that are there whole or not at all, also after a crash."""

from __future__ import annotations

import contextlib
import ctypes
import os
from pathlib import Path


def sync(path: Path) -> None:
    """Wait until a file, or a folder's list of names, would survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """``sync`` of ``folder`` and all in it."""
    for path, _, files in os.walk(folder, topdown=False):
        for name in files:
            sync(Path(path) / name)
        sync(Path(path))


def write_file(path: Path, content: bytes) -> None:
    """Write ``content`` to ``path.new``, flush it, and give it its name. OSError leaves nothing behind."""
    beside = path.with_name(path.name + ".new")
    try:
        beside.write_bytes(content)
        sync(beside)
        os.replace(beside, path)
    except OSError:
        with contextlib.suppress(OSError):
            beside.unlink()
        raise


def exchange(first: Path, second: Path) -> bool:
    """Let two paths of one file system swap what they name, in one step; False where the system cannot."""
    here, swap = -100, 2  # AT_FDCWD, RENAME_EXCHANGE of Linux' renameat2
    call = getattr(ctypes.CDLL(None), "renameat2", None)
    return call is not None and call(here, os.fsencode(first), here, os.fsencode(second), swap) == 0
