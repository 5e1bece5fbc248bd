"""Ending with the parent process, also when that is killed and cannot tell anybody."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

# Loaded here: between fork and exec it would be too late.
_libc = ctypes.CDLL(None, use_errno=True)
PR_SET_PDEATHSIG = 1  # linux/prctl.h


def die_with(parent: int) -> None:
    """Have the kernel kill this process when its parent, process ``parent``, dies. On Linux only."""
    if sys.platform == "linux":
        _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
