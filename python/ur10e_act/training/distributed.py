"""Where this process stands among its ranks, and the few collectives that training needs.

Nothing but the environment decides: torchrun sets RANK, WORLD_SIZE and LOCAL_RANK. Without them, or with a
world size of 1, this is one process and no process group is made.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NoReturn, TypeVar

import torch
import torch.distributed as dist

from ur10e_act.errors import TRY_AGAIN_STATUS, TryAgain, UserError
from ur10e_act.process import die_with

T = TypeVar("T")
# Statistics over a large dataset and the first download of backbone weights stand between two collectives.
COLLECTIVE_TIMEOUT = timedelta(minutes=30)


@dataclass(frozen=True)
class World:
    """This process: its rank among ``world_size``, its local rank on this host, and its device."""

    rank: int
    local_rank: int
    world_size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        return self.rank == 0


def _environment() -> tuple[int, int, int]:
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE")
    values = [os.environ.get(name) for name in names]
    if all(value is None for value in values):
        return 0, 0, 1
    try:
        rank, local_rank, world_size = (int(value or "") for value in values)
    except ValueError:
        shown = ", ".join(f"{name}={value}" for name, value in zip(names, values, strict=True))
        raise UserError(
            f"{shown} in the environment: start several processes with torchrun, or unset them"
        ) from None
    if not 0 <= rank < world_size:
        raise UserError(f"RANK={rank} with WORLD_SIZE={world_size}: ranks go from 0 to {world_size - 1}")
    return rank, local_rank, world_size


def _device(choice: str, local_rank: int) -> torch.device:
    if choice == "cpu" or (choice == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise UserError(
            "training.device: cuda was asked for, but torch finds no CUDA device; use auto or cpu"
        )
    if local_rank >= torch.cuda.device_count():
        raise UserError(
            f"local rank {local_rank} on {socket.gethostname()} has no GPU "
            f"({torch.cuda.device_count()} found); start at most one process per GPU"
        )
    torch.cuda.set_device(local_rank)
    return torch.device("cuda", local_rank)


@contextlib.contextmanager
def process_group(device_choice: str) -> Iterator[World]:
    """Join the process group (nccl with CUDA, gloo without) for the time of the block.

    ``device_choice`` is auto, cpu or cuda. Raises UserError for an environment or a device that does not fit,
    and TryAgain when another rank is lost.
    """
    rank, local_rank, world_size = _environment()
    device = _device(device_choice, local_rank)
    if world_size == 1:
        yield World(rank, local_rank, world_size, device)
        return
    if "TORCHELASTIC_RUN_ID" in os.environ:
        # torchrun gives ranks sessions of their own: they would outlive its kill, and keep their GPUs.
        die_with(os.getppid())
    lost = False
    try:
        # NCCL is told its device, or it guesses one from the rank at the first collective.
        dist.init_process_group(
            "nccl" if device.type == "cuda" else "gloo",
            timeout=COLLECTIVE_TIMEOUT,
            device_id=device if device.type == "cuda" else None,
        )
        yield World(rank, local_rank, world_size, device)
        # Rank 0 hosts the store: it must not leave while others still talk to it.
        dist.barrier()
    except RuntimeError as error:
        if not lost_peer(error):
            raise
        lost = True
        reason = str(error).splitlines()[0]
        raise TryAgain(f"rank {rank} has lost another rank, whose own log says why ({reason})") from error
    finally:
        # NCCL would wait for a lost rank; gloo, left alone, may abort the interpreter's own end.
        if dist.is_initialized() and not (lost and device.type == "cuda"):
            dist.destroy_process_group()


def lost_peer(error: RuntimeError) -> bool:
    """Whether ``error`` comes from the connection to other ranks: torch's own kinds, or gloo's plain text."""
    return isinstance(error, dist.DistError) or "gloo/" in str(error)


def gather(world: World, value: T) -> list[T]:
    """``value`` of every rank, in the order of ranks, on every rank. Pickled: for small things."""
    if world.world_size == 1:
        return [value]
    values: list[Any] = [None] * world.world_size
    dist.all_gather_object(values, value)
    return values


def sum_over_ranks(world: World, tensor: torch.Tensor) -> torch.Tensor:
    """The sum of ``tensor`` over all ranks, in place and on its device."""
    if world.world_size > 1:
        dist.all_reduce(tensor)
    return tensor


def run_on_all_ranks(world: World, work: Callable[[], T]) -> T:
    """Run ``work`` on every rank. When it raises UserError on any, every rank ends with status 2, or with 75
    where it was TryAgain on all that raised.

    Otherwise the other ranks would wait in their next collective until it times out. Each host prints the
    message once, with the rank it came from.
    """
    result, problem = None, None
    try:
        result = work()
    except UserError as error:
        if world.world_size == 1:
            raise
        problem = str(error), isinstance(error, TryAgain)
    found = {rank: pair for rank, pair in enumerate(gather(world, problem)) if pair is not None}
    if found:
        problems = {rank: text for rank, (text, _) in found.items()}
        if world.local_rank == 0:
            everywhere = len(problems) == world.world_size and len(set(problems.values())) == 1
            for rank, text in list(problems.items())[: 1 if everywhere else None]:
                print("error:" if everywhere else f"error: rank {rank}:", text, file=sys.stderr, flush=True)
        # The launcher ends all processes when the first one leaves: print before that.
        dist.barrier()
        sys.exit(TRY_AGAIN_STATUS if all(again for _, again in found.values()) else 2)
    return result  # type: ignore[return-value]


def require_same(world: World, what: str, value: str, kind: type[UserError] = UserError) -> None:
    """Raise ``kind``, on every rank, unless ``value`` is the same on all; the message names who differs."""
    entries = gather(world, (socket.gethostname(), value))
    reference = entries[0][1]
    different = [
        f"rank {rank} on {host} has {other}"
        for rank, (host, other) in enumerate(entries)
        if other != reference
    ]
    if different:
        message = f"the {what} differs between ranks: rank 0 has {reference}, {'; '.join(different)}"
        abort_all_ranks(world, message, kind)


def abort_all_ranks(world: World, message: str, kind: type[UserError] = UserError) -> NoReturn:
    """End every rank with ``message``; all of them must call it with the same one."""

    def fail() -> NoReturn:
        raise kind(message)

    run_on_all_ranks(world, fail)
    raise AssertionError("run_on_all_ranks ends with an error that all ranks have")


@contextlib.contextmanager
def local_rank_0_first(world: World) -> Iterator[None]:
    """Local rank 0 of each host runs the block first and alone: for downloads into a shared cache."""
    if world.world_size > 1 and world.local_rank != 0:
        dist.barrier()
    try:
        yield
    finally:
        if world.world_size > 1 and world.local_rank == 0:
            dist.barrier()
