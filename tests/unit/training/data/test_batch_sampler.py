import pytest

from delia_ray.training.data.batch_sampler import BatchSampler, count_steps

IDS = [f"row-{n}" for n in range(10)]
GROUPS = ["task" if n % 5 == 2 else "diverse" for n in range(10)]


def build_sampler(count: int = 10, global_batch_size: int = 5, seed: int = 0, **order: str) -> BatchSampler:
    return BatchSampler(GROUPS[:count], lambda: IDS[:count], global_batch_size, seed, **order)  # pyright: ignore[reportArgumentType]


def test_an_epoch_sees_every_row_once_and_the_first_keeps_the_mixtures_order():
    sampler = build_sampler()
    assert sampler(0) + sampler(1) == list(range(10))
    assert sorted(sampler(2) + sampler(3)) == list(range(10))
    assert sampler(2) + sampler(3) != list(range(10))


def test_a_step_has_the_same_rows_whichever_step_is_sampled_first():
    late, early = (build_sampler(global_batch_size=4, seed=3) for _ in range(2))
    expected = [early(step) for step in range(12)]
    assert [late(step) for step in reversed(range(12))] == expected[::-1]


def test_a_batch_may_span_epochs_and_be_larger_than_the_set():
    sampler = build_sampler(count=3, global_batch_size=8)
    assert len(sampler(0)) == 8 and set(sampler(0)) == {0, 1, 2}


@pytest.mark.parametrize(("order", "task_positions"), [("task_first", [0, 1]), ("task_last", [8, 9])])
def test_task_rows_may_come_together_in_every_epoch(order: str, task_positions: list[int]):
    sampler = build_sampler(global_batch_size=10, order=order)
    for epoch in range(3):
        assert [position for position, index in enumerate(sampler(epoch)) if GROUPS[index] == "task"] == task_positions
        assert sorted(sampler(epoch)) == list(range(10))


def test_the_rows_of_a_step_can_be_named():
    assert build_sampler().get_example_ids(1) == IDS[5:]


@pytest.mark.parametrize(
    ("rows", "ratio", "epochs", "batch", "steps"), [(32, 6, 2, 8, 56), (10, 0, 1, 16, 1), (10, 0.55, 1, 4, 4), (99, 260, 1, 16, 1615)]
)
def test_steps_cover_the_mixture_and_round_up(rows: int, ratio: float, epochs: float, batch: int, steps: int):
    assert count_steps(rows, ratio, epochs, batch) == steps
