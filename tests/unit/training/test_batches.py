import pytest

from delia_ray.training.batches import StepRows, steps_for

IDS = [f"row-{n}" for n in range(10)]


def test_an_epoch_sees_every_row_once_and_the_first_keeps_the_mixtures_order():
    rows = StepRows(IDS, batch_rows=5, seed=0)
    assert rows(0) + rows(1) == list(range(10))
    assert sorted(rows(2) + rows(3)) == list(range(10))
    assert rows(2) + rows(3) != list(range(10))


def test_a_step_has_the_same_rows_whichever_step_was_asked_first():
    late = StepRows(IDS, batch_rows=4, seed=3)
    early = StepRows(IDS, batch_rows=4, seed=3)
    wanted = [early(step) for step in range(12)]
    assert [late(step) for step in reversed(range(12))] == wanted[::-1]


def test_a_batch_may_span_epochs_and_be_larger_than_the_set():
    rows = StepRows(IDS[:3], batch_rows=8, seed=0)
    assert len(rows(0)) == 8 and set(rows(0)) == {0, 1, 2}


@pytest.mark.parametrize(
    ("rows", "ratio", "epochs", "batch", "steps"), [(32, 6, 2, 8, 56), (10, 0, 1, 16, 1), (10, 0.55, 1, 4, 4), (99, 260, 1, 16, 1615)]
)
def test_steps_cover_the_mixture_and_round_up(rows: int, ratio: float, epochs: float, batch: int, steps: int):
    assert steps_for(rows, ratio, epochs, batch) == steps
