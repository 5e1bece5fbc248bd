"""The order in which training samples are visited, across ranks, epochs and resumes."""

from __future__ import annotations

from collections.abc import Iterator

from torch.utils.data import Dataset, DistributedSampler


class ResumableSampler(DistributedSampler):
    """torch's DistributedSampler that runs on from epoch to epoch and can start anywhere.

    Each epoch is DistributedSampler's own: a permutation seeded by (seed, epoch), padded to a multiple of the
    world size and dealt out to the ranks in turn. The iterator does not end: a loader on top of it keeps its
    workers busy across epochs, and all its batches are full. It yields ``(epoch, index)``, since
    augmentations differ from epoch to epoch.
    """

    def __init__(
        self, dataset: Dataset, world_size: int, rank: int, seed: int, samples_seen: int = 0
    ) -> None:
        """``samples_seen``: how many samples all ranks together have consumed before."""
        super().__init__(dataset, num_replicas=world_size, rank=rank, shuffle=True, seed=seed)
        self.samples_seen = samples_seen

    def __iter__(self) -> Iterator[tuple[int, int]]:
        epoch, offset = divmod(self.samples_seen, self.total_size)
        # Ranks take turns in the permutation, so an epoch's first n samples are n / world size of each.
        skip = -(-offset // self.num_replicas)
        while True:
            self.set_epoch(epoch)
            for index in list(super().__iter__())[skip:]:
                yield epoch, index
            epoch, skip = epoch + 1, 0
