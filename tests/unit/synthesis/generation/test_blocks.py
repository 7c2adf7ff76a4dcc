"""The blocks of requests: many engines do not wait for the scheduler, and one loses little with its actor."""

import pytest

from delia_ray.placement import ActorPool
from delia_ray.synthesis.generation.generate import MAX_BLOCKS, count_generation_blocks


def _count(rows: int, engines: int) -> int:
    return count_generation_blocks(rows, ActorPool(size=engines, batch_rows=32))


def test_a_block_of_one_engine_is_one_batch():
    assert _count(3_200, engines=1) == 100


def test_with_engines_a_block_grows_and_the_number_of_blocks_does_not():
    assert [_count(100_000 * engines, engines) for engines in (1, 2, 4, 8)] == [3_125] * 4


@pytest.mark.parametrize("engines", [2, 8, 64, 512])
def test_every_engine_has_blocks_enough_that_few_wait_at_the_end(engines: int):
    for rows in (16 * 32 * engines, 100_000 * engines):
        assert _count(rows, engines) >= min(16 * engines, MAX_BLOCKS)


@pytest.mark.parametrize("rows", [1, 31, 32, 33])
def test_few_rows_are_one_block(rows: int):
    assert _count(rows, engines=8) == 1


def test_blocks_are_never_more_than_the_scheduler_can_hold():
    assert _count(52_000_000, engines=512) == MAX_BLOCKS
