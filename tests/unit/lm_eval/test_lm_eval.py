"""Changes by tuning, computed from lm-eval's results of each model."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from delia_ray.core.errors import UserError
from delia_ray.lm_eval.config import LmEval
from delia_ray.lm_eval.schema import LmEvalChange, LmEvalResults, TaskMetric
from delia_ray.lm_eval.stage import check_lm_eval, compare_results
from delia_ray.placement import LmEvalProcess


def make_results(scores: list[float] | None, value: float | None = None) -> LmEvalResults:
    items = None if scores is None else {str(item): score for item, score in enumerate(scores)}
    mean = value if value is not None else sum(scores or [0]) / len(scores or [0])
    metric = TaskMetric(task="capitals", metric="acc", filter=None, value=mean, stderr=0.1, items=items)
    return LmEvalResults(lm_eval="0.4.13", metrics=[metric], truncated_prompts=0)


def compare(**arms: LmEvalResults) -> dict[str, LmEvalChange]:
    return compare_results(arms, seed=0, resamples=200).metrics["capitals acc"]


def test_a_model_that_forgot_every_item_is_surely_worse():
    change = compare(base=make_results([1.0] * 8), sft=make_results([0.0] * 8))["sft"]
    assert (change.value, change.difference) == (0, -1)
    assert change.low == -1 and change.high is not None and -1 < change.high < -0.4, "eight items are not all there are"
    assert change.p == pytest.approx(2 / 2**8)


def test_a_model_that_answers_alike_has_not_changed():
    scores = [1.0, 0.0, 1.0, 1.0]
    change = compare(base=make_results(scores), sft=make_results(scores))["sft"]
    assert (change.difference, change.p) == (0, 1)
    assert change.low is not None and change.high is not None and change.low < 0 < change.high


def test_the_model_before_tuning_is_compared_with_nothing():
    change = compare(base=make_results([1.0, 0.0]), sft=make_results([1.0, 1.0]))["base"]
    assert change.value == 0.5 and change.difference is change.p is None


def test_p_values_are_corrected_for_the_number_of_arms():
    arms = compare(base=make_results([1.0] * 8), sft=make_results([0.0] * 8), delia=make_results([0.0] * 8))
    assert arms["sft"].p and arms["sft"].p_holm == pytest.approx(2 * arms["sft"].p)


@pytest.mark.parametrize(
    "after",
    [make_results(None, 12.5), make_results([1.0, 0.0, 1.0]), make_results([0.0, 1.0], value=0.9)],
    ids=["no single scores", "other items", "the metric is no mean"],
)
def test_a_change_that_items_do_not_explain_has_no_interval(after: LmEvalResults):
    change = compare(base=make_results([1.0, 0.0]), sft=after)["sft"]
    assert change.difference == pytest.approx(after.metrics[0].value - 0.5)
    assert change.low is change.high is change.p is None


def test_no_task_is_refused_with_an_example():
    with pytest.raises(UserError, match=r"lm_eval\.tasks: names no task; give some, for example"):
        check_lm_eval(LmEval(), LmEvalProcess())


@pytest.mark.parametrize(("python", "complaint"), [("/bin/false", "/bin/false cannot import lm_eval"), ("/nowhere/python", "No such file")])
def test_an_interpreter_without_lm_eval_is_refused(python: str, complaint: str):
    with pytest.raises(UserError, match=rf"placement\.lm_eval\.python: .*{complaint}"):
        check_lm_eval(LmEval(tasks=("arc_easy",)), LmEvalProcess(python=Path(python)))


def test_a_folder_of_tasks_that_is_not_there_is_refused(tmp_path: Path):
    with pytest.raises(ValidationError, match=r"include: .* is no folder"):
        LmEval(include=tmp_path / "tasks")
