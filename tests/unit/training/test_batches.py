import pytest

from delia_ray.training.batches import StepRows, steps_for

IDS = [f"row-{n}" for n in range(10)]
GROUPS = ["task" if n % 5 == 2 else "diverse" for n in range(10)]


def step_rows(count: int = 10, batch_rows: int = 5, seed: int = 0, **order: str) -> StepRows:
    return StepRows(GROUPS[:count], lambda: IDS[:count], batch_rows, seed, **order)  # pyright: ignore[reportArgumentType]


def test_an_epoch_sees_every_row_once_and_the_first_keeps_the_mixtures_order():
    rows = step_rows()
    assert rows(0) + rows(1) == list(range(10))
    assert sorted(rows(2) + rows(3)) == list(range(10))
    assert rows(2) + rows(3) != list(range(10))


def test_a_step_has_the_same_rows_whichever_step_was_asked_first():
    late, early = (step_rows(batch_rows=4, seed=3) for _ in range(2))
    wanted = [early(step) for step in range(12)]
    assert [late(step) for step in reversed(range(12))] == wanted[::-1]


def test_a_batch_may_span_epochs_and_be_larger_than_the_set():
    rows = step_rows(count=3, batch_rows=8)
    assert len(rows(0)) == 8 and set(rows(0)) == {0, 1, 2}


@pytest.mark.parametrize(("order", "task_places"), [("task_first", [0, 1]), ("task_last", [8, 9])])
def test_task_rows_may_come_together_in_every_epoch(order: str, task_places: list[int]):
    rows = step_rows(batch_rows=10, order=order)
    for epoch in range(3):
        assert [place for place, index in enumerate(rows(epoch)) if GROUPS[index] == "task"] == task_places
        assert sorted(rows(epoch)) == list(range(10))


def test_the_rows_of_a_step_can_be_named():
    assert step_rows().ids(1) == IDS[5:]


@pytest.mark.parametrize(
    ("rows", "ratio", "epochs", "batch", "steps"), [(32, 6, 2, 8, 56), (10, 0, 1, 16, 1), (10, 0.55, 1, 4, 4), (99, 260, 1, 16, 1615)]
)
def test_steps_cover_the_mixture_and_round_up(rows: int, ratio: float, epochs: float, batch: int, steps: int):
    assert steps_for(rows, ratio, epochs, batch) == steps
