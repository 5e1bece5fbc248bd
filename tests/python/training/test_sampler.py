"""sampler.py: ranks share an epoch between them, and a resume continues where the run stopped."""

from itertools import islice

import pytest

from ur10e_act.training.sampler import ResumableSampler


def take(frames: int, world_size: int, rank: int, count: int, samples_seen: int = 0) -> list[tuple[int, int]]:
    return list(islice(ResumableSampler(range(frames), world_size, rank, 7, samples_seen), count))


@pytest.mark.parametrize(("frames", "world_size"), [(24, 1), (24, 2), (24, 4), (25, 2), (23, 4)])
def test_ranks_cover_each_epoch_and_share_no_sample_but_the_padding(frames: int, world_size: int) -> None:
    per_rank = -(-frames // world_size)
    for epoch in range(3):
        indices = [
            index
            for rank in range(world_size)
            for index in take(frames, world_size, rank, 3 * per_rank)[
                epoch * per_rank : (epoch + 1) * per_rank
            ]
        ]
        assert {e for e, _ in indices} == {epoch}
        assert {index for _, index in indices} == set(range(frames))
        assert len(indices) - len(set(indices)) == per_rank * world_size - frames


def test_each_epoch_has_an_order_of_its_own() -> None:
    order = take(50, 1, 0, 100)
    assert [index for _, index in order[:50]] != [index for _, index in order[50:]]


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("steps", [0, 1, 5, 8, 9, 20])
def test_a_resumed_sampler_goes_on_as_if_never_stopped(world_size: int, steps: int) -> None:
    batch = 3
    for rank in range(world_size):
        whole = take(25, world_size, rank, 100)
        resumed = take(25, world_size, rank, 100 - steps * batch, samples_seen=steps * batch * world_size)
        assert resumed == whole[steps * batch :]


def test_another_world_size_goes_on_with_the_samples_that_are_left() -> None:
    seen = {index for rank in range(2) for index in take(24, 2, rank, 6)}
    rest = {index for rank in range(3) for index in take(24, 3, rank, 4, samples_seen=12)}
    assert {index for _, index in seen | rest} == set(range(24))
    assert not seen & rest
