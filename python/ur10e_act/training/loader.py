"""The DataLoader of training and validation, whose workers also live with a small /dev/shm."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Sampler

from ur10e_act.errors import TryAgain, UserError

SHARED_MEMORY = "/dev/shm"
PREFETCH = 2  # batches a worker has ready, torch's own default


def make_loader(
    samples: Any, batch_size: int, num_workers: int, pin_memory: bool, sampler: Sampler | None = None
) -> DataLoader:
    """Batches of ``samples`` (dicts of tensors), as dicts of tensors or, through pipes, of arrays.

    Workers hand over tensors in shared memory. Kubernetes gives a pod 64 MiB of it, and a worker that finds
    it full is killed by SIGBUS; so where the batches in flight would not fit twice, they go through pipes.
    The iterators leave torch's global random state alone, without which no resume is exact.
    """
    return DataLoader(
        samples,
        batch_size=batch_size,
        sampler=sampler,
        num_workers=num_workers,
        prefetch_factor=PREFETCH if num_workers else None,
        pin_memory=pin_memory,
        collate_fn=as_arrays
        if num_workers and not fits_shared_memory(samples, batch_size, num_workers)
        else None,
        generator=torch.Generator(),
    )


def fits_shared_memory(samples: Any, batch_size: int, num_workers: int) -> bool:
    """Whether /dev/shm has room for twice what the workers of all ranks on this host have in flight."""
    if not len(samples):
        return True
    sample_bytes = sum(value.numel() * value.element_size() for value in samples[0].values())
    ranks = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    needed = 2 * ranks * num_workers * (PREFETCH + 1) * batch_size * sample_bytes
    try:
        status = os.statvfs(SHARED_MEMORY)
    except OSError:
        return True  # not Linux: shared memory is not a file system there
    return status.f_bavail * status.f_frsize >= needed


def as_arrays(samples: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, np.ndarray]:
    """One batch as arrays, which are pickled into a pipe, where tensors would go through shared memory."""
    return {key: np.stack([sample[key].numpy() for sample in samples]) for key in samples[0]}


@contextlib.contextmanager
def worker_errors() -> Iterator[None]:
    """Say in one line what torch wraps in a worker's traceback; TryAgain for a worker that was killed."""
    try:
        yield
    except UserError as error:
        raise type(error)(re.sub(r"(?s)^Caught .*\n[\w.]+: ", "", str(error).strip())) from error
    except RuntimeError as error:
        if not re.match(r"DataLoader worker .*(killed by signal|exited unexpectedly)", str(error)):
            raise
        what = str(error).splitlines()[0].rstrip(". ")
        raise TryAgain(f"{what}. Out of memory? Lower data.num_workers") from error
