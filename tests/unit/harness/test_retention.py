"""What tuning left of other tasks, from what lm-eval says of each model."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from delia_ray.errors import UserError
from delia_ray.harness.config import LmEval
from delia_ray.harness.schema import Change, Found, TaskMetric
from delia_ray.harness.stage import check_harness, retention
from delia_ray.placement import Harness


def found(scores: list[float] | None, value: float | None = None) -> Found:
    items = None if scores is None else {str(item): score for item, score in enumerate(scores)}
    mean = value if value is not None else sum(scores or [0]) / len(scores or [0])
    metric = TaskMetric(task="capitals", metric="acc", filter=None, value=mean, stderr=0.1, items=items)
    return Found(lm_eval="0.4.13", metrics=[metric], cut=0)


def changes(**arms: Found) -> dict[str, Change]:
    return retention(arms, seed=0, resamples=200).metrics["capitals acc"]


def test_a_model_that_forgot_every_item_is_surely_worse():
    change = changes(base=found([1.0] * 8), it=found([0.0] * 8))["it"]
    assert (change.value, change.difference) == (0, -1)
    assert change.low == -1 and change.high is not None and -1 < change.high < -0.4, "eight items are not all there are"
    assert change.p == pytest.approx(2 / 2**8)


def test_a_model_that_answers_alike_has_not_changed():
    scores = [1.0, 0.0, 1.0, 1.0]
    change = changes(base=found(scores), it=found(scores))["it"]
    assert (change.difference, change.p) == (0, 1)
    assert change.low is not None and change.high is not None and change.low < 0 < change.high


def test_the_model_before_tuning_is_compared_with_nothing():
    change = changes(base=found([1.0, 0.0]), it=found([1.0, 1.0]))["base"]
    assert change.value == 0.5 and change.difference is change.p is None


def test_p_values_are_corrected_for_the_number_of_arms():
    arms = changes(base=found([1.0] * 8), it=found([0.0] * 8), delia=found([0.0] * 8))
    assert arms["it"].p and arms["it"].p_holm == pytest.approx(2 * arms["it"].p)


@pytest.mark.parametrize(
    "after",
    [found(None, 12.5), found([1.0, 0.0, 1.0]), found([0.0, 1.0], value=0.9)],
    ids=["no single scores", "other items", "the metric is no mean"],
)
def test_a_change_that_items_do_not_explain_has_no_interval(after: Found):
    change = changes(base=found([1.0, 0.0]), it=after)["it"]
    assert change.difference == pytest.approx(after.metrics[0].value - 0.5)
    assert change.low is change.high is change.p is None


def test_a_task_that_lm_eval_does_not_know_is_refused_by_name():
    with pytest.raises(UserError, match=r"lm_eval\.tasks: .*Tasks not found: no_such_task"):
        check_harness(LmEval(tasks=("no_such_task",)), Harness())


def test_no_task_is_refused_with_an_example():
    with pytest.raises(UserError, match=r"lm_eval\.tasks: names no task; give some, for example"):
        check_harness(LmEval(), Harness())


@pytest.mark.parametrize(("python", "complaint"), [("/bin/false", "/bin/false cannot import lm_eval"), ("/nowhere/python", "No such file")])
def test_an_interpreter_without_lm_eval_is_refused(python: str, complaint: str):
    with pytest.raises(UserError, match=rf"placement\.lm_eval\.python: .*{complaint}"):
        check_harness(LmEval(tasks=("arc_easy",)), Harness(python=Path(python)))


def test_a_folder_of_tasks_that_is_not_there_is_refused(tmp_path: Path):
    with pytest.raises(ValidationError, match=r"include: .* is no folder"):
        LmEval(include=tmp_path / "tasks")
