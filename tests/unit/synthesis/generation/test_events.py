"""The simulation of a generation on many engines."""

from dataclasses import replace

import pytest

from benchmarks.scale.events import Generation, simulate

GENERATION = Generation(rows=1_000_000, block_rows=1_000, engines=1, engine_rows_per_second=10.0, block_seconds=0.02)


@pytest.mark.parametrize("rows", [1_000, 1_001, 100_000, 1_234_567])
def test_one_engine_takes_its_rows_and_the_head_twice_half_a_block(rows: int):
    outcome = simulate(replace(GENERATION, rows=rows))
    assert outcome.seconds == pytest.approx(rows / 10 + 0.02)


@pytest.mark.parametrize("engines", [1, 2, 4, 8, 16])
def test_twice_the_engines_take_half_the_time_while_the_head_is_idle(engines: int):
    once, twice = (simulate(replace(GENERATION, rows=3_200_000, engines=count)) for count in (engines, 2 * engines))
    assert twice.seconds == pytest.approx(once.seconds / 2, rel=0.01)
    assert twice.head_busy < 0.1


def test_however_many_engines_no_more_blocks_are_done_than_the_head_schedules():
    outcome = simulate(replace(GENERATION, engines=512, engine_rows_per_second=10_000.0))
    assert outcome.seconds == pytest.approx(1_000 * 0.02, rel=0.01)
    assert outcome.head_busy == pytest.approx(1.0, rel=0.01)
    assert outcome.engines_busy < 0.02


def test_larger_blocks_move_the_limit_of_the_head():
    fast = replace(GENERATION, engines=64, engine_rows_per_second=100.0)
    small, large = (simulate(replace(fast, block_rows=rows)) for rows in (32, 320))
    assert small.seconds == pytest.approx(31_250 * 0.02, rel=0.01)
    assert large.seconds < small.seconds / 3


def test_an_engine_that_holds_one_block_waits_for_the_head_after_each():
    outcome = simulate(replace(GENERATION, rows=10_000, queued_blocks=1))
    assert outcome.seconds == pytest.approx(10 * (100 + 0.02))


def test_the_shares_of_time_add_up():
    outcome = simulate(replace(GENERATION, engines=7))
    assert outcome.head_busy * outcome.seconds == pytest.approx(1_000 * 0.02)
    assert outcome.engines_busy * outcome.seconds * 7 == pytest.approx(100_000)
