import json

import numpy as np
import pyarrow as pa
import pytest

from delia_ray.errors import UserError
from delia_ray.evaluation.bootstrap import Difference, Interval, bootstrap
from delia_ray.evaluation.measures import measures
from delia_ray.evaluation.scoring import (
    GENERATION_SCHEMA,
    ArmColumns,
    Generation,
    compare,
    format_columns,
    generations,
    majority,
    summarise,
    task_columns,
)
from delia_ray.evaluation.task_metrics import score_rows
from delia_ray.reporting.schema import BUILTIN_METRICS
from delia_ray.tasks.config import MessagesTask
from delia_ray.tasks.formatted import Prompt

YES, NO, PROSE = ('{"thought": "t", "hallucination": "yes"}', ' {"thought": "t", "hallucination": "no"}\n', "No, it is right.")


def prompt(probe: str, identifier: str, label: str | None = None, expected: str | None = None) -> Prompt:
    return Prompt(identifier, probe, [{"role": "user", "content": "q"}], label, expected)


def item(probe: str, identifier: str, answer: str, label: str | None = None, expected: str | None = None) -> Generation:
    (row,) = generations([prompt(probe, identifier, label, expected)], [answer], {}, {})
    return row


def ordinary(identifier: str, answer: str, base: str = "Paris.", divergences: tuple[float, ...] = (0.0,)) -> Generation:
    (row,) = generations([prompt("ordinary", identifier)], [answer], {identifier: base}, {identifier: divergences})
    return row


def scored(rows: list[Generation], *metric: str) -> ArmColumns:
    """The arrays of a user's own task that names ``metric``."""
    task = MessagesTask.model_validate({"kind": "messages", "train": "a", "test": "b", "metric": metric})
    test = [row for row in rows if row["probe"] == "test"]
    return task_columns(rows, score_rows(task, [row["answer"] for row in test], [row["expected"] or "" for row in test]))


def same(difference: Difference) -> bool:
    return (difference.difference, difference.low, difference.high, difference.p) == (0.0, 0.0, 0.0, 1.0)


ROWS = [
    item("test", "a", YES, "yes"),
    item("test", "b", NO, "yes"),
    item("test", "c", PROSE, "no"),
    item("test", "d", NO, "no"),
    item("no_token", "a", YES, "yes"),
    item("no_token", "b", PROSE, "yes"),
    item("no_token", "c", PROSE, "no"),
    item("false_trigger", "a", NO, "yes"),
    item("plug_play", "p1", PROSE),
    item("plug_play", "p2", YES),
    ordinary("o1", "Paris.", divergences=(0.5, 0.25, 0.25)),
    ordinary("o2", "Paris", divergences=(5.0,)),
    ordinary("o3", YES, divergences=(0.0, 0.0, 0.0, 0.0)),
    ordinary("o4", "Paris.", divergences=(0.0, 2.0)),
]


def test_every_metric_equals_its_hand_computed_value() -> None:
    values = {name: interval.value for name, interval in summarise(format_columns(ROWS), seed=0, resamples=100).items()}
    assert values == pytest.approx(
        {
            "format_acc": 3 / 4,
            "label_acc": 2 / 4,  # a and d
            "bal_acc": (1 / 2 + 1 / 2) / 2,
            "f1_yes": 2 * 1 / (1 + 2),
            "no_token": 1 / 3,
            "selectivity": 2 / 3 - 1 / 3,  # over a, b and c: d was not asked both ways
            "spill": 1 / 4,
            "false_trigger": 1.0,
            "plug_play": 1 / 2,
            "retention_kl": 8.0 / 10,  # all nats over all tokens, not the mean of prompts' means
            "retention_match": 2 / 4,
        }
    )


def test_the_metrics_are_those_of_the_report_in_its_order() -> None:
    assert tuple(measures(["format"])) == BUILTIN_METRICS


def test_an_interval_counts_the_prompts_it_rests_on() -> None:
    counts = {name: interval.n for name, interval in summarise(format_columns(ROWS), seed=0, resamples=100).items()}
    assert counts == {
        **dict.fromkeys(("format_acc", "label_acc", "bal_acc", "f1_yes"), 4),
        **dict.fromkeys(("no_token", "selectivity"), 3),
        **dict.fromkeys(("spill", "retention_kl", "retention_match"), 4),
        "false_trigger": 1,
        "plug_play": 2,
    }


def test_selectivity_pairs_the_answers_to_one_item_whatever_order_they_come_in() -> None:
    with_token = [YES, PROSE] * 20
    rows = [item("test", str(index), answer, "yes") for index, answer in enumerate(with_token)]
    rows += [item("no_token", str(index), answer, "yes") for index, answer in reversed(list(enumerate(with_token)))]
    selectivity = summarise(format_columns(rows), seed=0, resamples=200)["selectivity"]
    assert selectivity == Interval(0.0, 0.0, 0.0, 40)  # item by item there is no difference, so no resample has one


def test_a_probe_that_was_not_asked_has_no_value_and_spoils_no_other() -> None:
    rows = [row for row in ROWS if row["probe"] == "test"]
    found = summarise(format_columns(rows), seed=0, resamples=100)
    nothing = Interval(None, None, None, 0)
    assert {name for name, interval in found.items() if interval == nothing} == set(BUILTIN_METRICS[4:])
    assert found["format_acc"].value == 0.75


def test_the_draws_of_the_drift_are_prompts() -> None:
    drift = summarise(format_columns(ROWS), seed=3, resamples=400)["retention_kl"]
    kl, tokens = np.array([1.0, 5.0, 0.0, 2.0]), np.array([3, 1, 4, 2])
    assert drift == bootstrap(lambda c: c["kl"].sum(-1) / c["n"].sum(-1), {"kl": kl, "n": tokens}, seed=3, resamples=400)


def test_a_users_task_has_its_own_metric_and_the_retention_ones() -> None:
    rows = [
        item("test", "a", " Reykjavik\n", expected="Reykjavik"),
        item("test", "b", "Oslo", expected="Reykjavik"),
        item("test", "c", "It is Oslo", expected="Oslo"),
        ordinary("o1", "Paris.", divergences=(0.5, 0.5)),
    ]
    values = {name: interval.value for name, interval in summarise(scored(rows, "exact_match"), seed=0, resamples=100).items()}
    assert values == pytest.approx({"exact_match": 1 / 3, "retention_kl": 0.5, "retention_match": 1.0})


def test_several_metrics_of_a_task_are_taken_on_the_same_rows_and_keep_their_order() -> None:
    rows = [
        item("test", "a", " The ship sailed from Reykjavik.\n", expected="The ship sailed from Reykjavik."),
        item("test", "b", "It sailed to Oslo at noon.", expected="The boat left for Oslo at noon."),
        item("test", "c", "No one was hurt.", expected="No one was hurt."),
    ]
    arm = scored(rows, "chrf", "bleu", "exact_match")
    together = summarise(arm, seed=0, resamples=200)
    assert list(together) == ["chrf", "bleu", "exact_match", "retention_kl", "retention_match"]
    assert together["exact_match"].value == pytest.approx(2 / 3)
    for metric in ("chrf", "bleu", "exact_match"):
        assert together[metric] == summarise(scored(rows, metric), seed=0, resamples=200)[metric]
    differences = compare(arm, scored([{**row, "answer": "no"} for row in rows], "chrf", "bleu", "exact_match"), seed=0, resamples=200)
    assert differences["chrf"].difference is not None and differences["chrf"].difference > 50


def test_a_target_that_the_metric_cannot_match_is_refused() -> None:
    with pytest.raises(UserError, match=r"task\.metric"):
        scored([item("test", "a", "{}", expected="not JSON")], "json_match")


def test_arms_are_compared_prompt_by_prompt() -> None:
    arm = format_columns(ROWS)
    assert all(map(same, compare(arm, arm, seed=0, resamples=100).values()))
    other = [{**row, "answer": PROSE, "unchanged": False if row["probe"] == "ordinary" else None} for row in ROWS]
    differences = compare(arm, format_columns(other), seed=0, resamples=100)  # pyright: ignore[reportArgumentType]
    assert differences["format_acc"].difference == pytest.approx(0.75)
    assert differences["selectivity"].difference == pytest.approx(1 / 3)
    assert differences["retention_match"].difference == pytest.approx(0.5)
    assert same(differences["retention_kl"])


def test_arms_that_answered_other_prompts_are_not_compared() -> None:
    with pytest.raises(AssertionError, match="other prompts"):
        compare(format_columns(ROWS), format_columns(ROWS[:-1]), seed=0, resamples=100)


def test_the_baseline_is_over_the_test_items_alone() -> None:
    extra = item("test", "e", PROSE, "yes")
    assert majority([*ROWS, extra]) == {"label_acc": 3 / 5, "bal_acc": 1 / 2}
    assert majority([item("test", "a", "x", expected="x")]) == {}


def test_rows_come_back_from_their_arrow_schema_unchanged() -> None:
    table = pa.Table.from_pylist(list(ROWS), schema=GENERATION_SCHEMA)
    assert table.to_pylist() == ROWS
    assert json.loads(json.dumps(ROWS)) == ROWS
    with pytest.raises(ValueError):
        generations([prompt("test", "a", "yes")], [], {}, {})
