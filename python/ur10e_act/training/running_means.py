"""Means of losses over the steps since the last log record, summed on the device without waiting for it."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from ur10e_act.training.distributed import World, sum_over_ranks


class RunningMeans:
    """Sums of 0-dim tensors by name; ``means`` is the one place where the host waits for the device."""

    def __init__(self) -> None:
        self._sums: dict[str, torch.Tensor] = {}
        self.steps = 0

    def add(self, values: Mapping[str, torch.Tensor], parts: int = 1) -> None:
        """Add values of a step, or of one of its ``parts`` micro-batches."""
        for name, value in values.items():
            part = value.detach() / parts
            self._sums[name] = self._sums[name] + part if name in self._sums else part

    def means(self, world: World) -> dict[str, float]:
        """The means over steps and ranks, the same on every rank."""
        total = sum_over_ranks(world, torch.stack(list(self._sums.values())))
        return dict(zip(self._sums, (total / (world.world_size * self.steps)).tolist(), strict=True))
