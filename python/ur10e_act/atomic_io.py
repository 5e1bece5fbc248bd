"""Files and folders that are there whole or not at all, also after a crash."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import shutil
from collections.abc import Callable
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


def replace_directory(
    new: Path, target: Path, old: Path, before_gap: Callable[[], None] = lambda: None
) -> None:
    """Give the directory ``new`` the name ``target``, and remove what had that name.

    All three lie on one file system. Where it can exchange two names, ``target`` is whole at every moment.
    Where it cannot, there is none between two renames, and ``before_gap`` is called before them; killed
    there, the former one stands at ``old``.
    """
    shutil.rmtree(old, ignore_errors=True)
    if not target.exists():
        os.rename(new, target)
    elif exchange(new, target):
        os.rename(new, old)
    else:
        before_gap()
        os.rename(target, old)
        os.rename(new, target)
    sync(target.parent)
    shutil.rmtree(old, ignore_errors=True)


class Lock:
    """An exclusive lock (flock) on an existing file or directory, until ``release`` or the process's end."""

    def __init__(self, path: Path, on_wait: Callable[[], None] | None = None) -> None:
        """Take the lock. Where another process holds it: BlockingIOError, or ``on_wait`` is called and then
        waited for it."""
        self.descriptor = os.open(path, os.O_RDONLY)
        try:
            try:
                fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if on_wait is None:
                    raise
                on_wait()
                fcntl.flock(self.descriptor, fcntl.LOCK_EX)
        except BaseException:
            os.close(self.descriptor)
            raise

    def release(self) -> None:
        os.close(self.descriptor)
