import json

import numpy as np
import pyarrow as pa
import pytest

from delia_ray.core.errors import UserError
from delia_ray.evaluation.metrics.task_metrics import score_rows
from delia_ray.evaluation.scoring import (
    GENERATION_SCHEMA,
    ArmColumns,
    GenerationRow,
    build_format_columns,
    build_generations,
    build_task_columns,
    compare_metrics,
    estimate_metrics,
    score_constants,
)
from delia_ray.evaluation.statistics.intervals import Interval, PairedDifference
from delia_ray.reporting.schema import BUILTIN_METRICS
from delia_ray.tasks.config import MessagesTask
from delia_ray.tasks.format_task import Prompt

YES, NO, PROSE = ('{"thought": "t", "hallucination": "yes"}', ' {"thought": "t", "hallucination": "no"}\n', "No, it is right.")


def prompt(probe: str, identifier: str, label: str | None = None, expected: str | None = None, wording: str | None = None) -> Prompt:
    return Prompt(identifier, probe, [{"role": "user", "content": "q"}], label, expected, wording)


def item(
    probe: str, identifier: str, answer: str, label: str | None = None, expected: str | None = None, wording: str | None = None
) -> GenerationRow:
    (row,) = build_generations([prompt(probe, identifier, label, expected, wording)], [answer], {}, {})
    return row


def ordinary(identifier: str, answer: str, base: str = "Paris.", divergences: tuple[float, ...] = (0.0,)) -> GenerationRow:
    (row,) = build_generations([prompt("ordinary", identifier)], [answer], {identifier: base}, {identifier: divergences})
    return row


def build_columns(rows: list[GenerationRow], *metric: str) -> ArmColumns:
    """Build the columns of a custom task with these metrics."""
    task = MessagesTask.model_validate({"kind": "messages", "train": "a", "test": "b", "metric": metric})
    test = [row for row in rows if row["probe"] == "test"]
    return build_task_columns(rows, score_rows(task, [row["answer"] for row in test], [row["expected"] or "" for row in test]))


def is_no_difference(difference: PairedDifference) -> bool:
    """Whether the difference is 0 with p 1, and its interval, if any, contains 0."""
    is_zero = (difference.difference, difference.p) == (0.0, 1.0)
    return is_zero and (difference.low is None or (difference.high is not None and difference.low < 0 < difference.high))


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
    values = {name: interval.value for name, interval in estimate_metrics(build_format_columns(ROWS), seed=0, resamples=100).items()}
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


def test_an_interval_counts_the_prompts_it_rests_on() -> None:
    counts = {name: interval.n for name, interval in estimate_metrics(build_format_columns(ROWS), seed=0, resamples=100).items()}
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
    paired = estimate_metrics(build_format_columns(rows), seed=0, resamples=200)["selectivity"]
    unpaired = estimate_metrics(
        build_format_columns([*rows[:40], *(item("no_token", str(n), YES if n < 20 else PROSE) for n in range(40))]), 0, 200
    )
    assert paired.value == unpaired["selectivity"].value == 0.0 and paired.n == 40
    assert width(paired) < width(unpaired["selectivity"]) / 2, "item by item there is no difference"


def width(interval: Interval) -> float:
    assert interval.low is not None and interval.high is not None
    return interval.high - interval.low


def test_no_rate_of_0_or_1_is_taken_for_certain() -> None:
    arms = [build_format_columns([ordinary(str(n), "Paris.") for n in range(64)]) for _ in range(2)]
    spill = estimate_metrics(arms[0], seed=0, resamples=100)["spill"]
    assert (spill.value, spill.low, spill.high) == (0, 0, pytest.approx(0.0566, abs=5e-5))
    difference = compare_metrics(*arms, seed=0, resamples=100)["spill"]
    assert (difference.low, difference.high) == pytest.approx((-0.0566, 0.0566), abs=5e-5)
    assert difference.p == 1 and difference.mde is not None and difference.mde > 0.0566


@pytest.mark.parametrize("answers", [[YES] * 40, [PROSE] * 40, [YES, NO] * 20, [YES, PROSE, NO, NO] * 10])
def test_no_metric_has_an_interval_of_no_width(answers: list[str]) -> None:
    rows = [item("test", str(n), answer, ("yes", "no")[n % 2], wording=f"w{n % 20}") for n, answer in enumerate(answers)]
    rows += [item(probe, str(n), PROSE, wording=f"p{n % 13}") for probe in ("no_token", "false_trigger", "plug_play") for n in range(26)]
    rows += [ordinary(str(n), "Paris.") for n in range(30)]
    arm = build_format_columns(rows)
    for estimate in (*estimate_metrics(arm, 0, 100).values(), *compare_metrics(arm, arm, 0, 100).values()):
        assert (estimate.low is None) == (estimate.note is not None)
        assert estimate.low is None or (estimate.high is not None and estimate.low < estimate.high)


def test_items_under_one_wording_count_for_less_the_more_alike_they_are() -> None:
    alike = [item("test", str(n), YES if n % 10 < 7 else PROSE, "yes", wording=f"w{n % 10}") for n in range(80)]
    interval = estimate_metrics(build_format_columns(alike), 0, 100)["format_acc"]
    assert (interval.clusters, interval.icc, interval.effective_n) == (10, pytest.approx(1.0), pytest.approx(10.0))
    singletons = estimate_metrics(build_format_columns([{**row, "wording": None} for row in alike]), 0, 100)["format_acc"]
    assert (singletons.clusters, singletons.icc, singletons.effective_n) == (80, None, 80)
    assert width(interval) > 2 * width(singletons)


def test_wordings_too_few_for_an_interval_are_said_to_be() -> None:
    rows = [item("test", str(n), YES if n % 3 else PROSE, "yes", wording=f"w{n % 5}") for n in range(50)]
    arm = build_format_columns(rows)
    interval, difference = estimate_metrics(arm, 0, 100)["format_acc"], compare_metrics(arm, arm, 0, 100)["format_acc"]
    assert interval.value == 0.66 and (interval.low, interval.high, difference.low, difference.p, difference.mde) == (None,) * 5
    assert interval.note == difference.note
    assert interval.note == "50 items share 5 wordings or documents, too few for an interval (at least 6)"


def test_selectivity_is_held_to_the_worse_of_the_wordings_of_either_prompt() -> None:
    test = [item("test", str(n), YES, "yes", wording=f"w{n % 20}") for n in range(40)]
    plain = [item("no_token", str(n), YES if n % 8 < 4 else PROSE, wording=f"p{n % 8}") for n in range(40)]
    intervals = estimate_metrics(build_format_columns([*test, *plain]), 0, 100)
    assert (intervals["format_acc"].clusters, intervals["no_token"].clusters, intervals["selectivity"].clusters) == (20, 8, 8)


def test_a_probe_that_was_not_asked_has_no_value_and_spoils_no_other() -> None:
    rows = [row for row in ROWS if row["probe"] == "test"]
    intervals = estimate_metrics(build_format_columns(rows), seed=0, resamples=100)
    nothing = Interval(None, None, None, 0)
    assert {name for name, interval in intervals.items() if interval == nothing} == set(BUILTIN_METRICS[4:])
    assert intervals["format_acc"].value == 0.75


def test_the_drift_is_drawn_by_prompt() -> None:
    rng = np.random.default_rng(0)
    tokens, kl = rng.integers(5, 40, 60), rng.exponential(size=60)
    rows = [ordinary(str(n), "Paris.", divergences=(each,) * int(count)) for n, (each, count) in enumerate(zip(kl, tokens, strict=True))]
    interval = estimate_metrics(build_format_columns(rows), seed=3, resamples=4000)["retention_kl"]
    picks = np.random.default_rng(9).integers(60, size=(20_000, 60))
    resampled = (kl * tokens)[picks].sum(1) / tokens[picks].sum(1)
    assert (interval.low, interval.high) == pytest.approx(tuple(np.quantile(resampled, [0.0225, 0.9775])), rel=0.03)  # t for 60 clusters


def test_a_users_task_has_its_own_metric_and_the_retention_ones() -> None:
    rows = [
        item("test", "a", " Reykjavik\n", expected="Reykjavik"),
        item("test", "b", "Oslo", expected="Reykjavik"),
        item("test", "c", "It is Oslo", expected="Oslo"),
        ordinary("o1", "Paris.", divergences=(0.5, 0.5)),
    ]
    values = {
        name: interval.value for name, interval in estimate_metrics(build_columns(rows, "exact_match"), seed=0, resamples=100).items()
    }
    assert values == pytest.approx({"exact_match": 1 / 3, "retention_kl": 0.5, "retention_match": 1.0})


def test_several_metrics_of_a_task_are_taken_on_the_same_rows_and_keep_their_order() -> None:
    rows = [
        item("test", "a", " The ship sailed from Reykjavik.\n", expected="The ship sailed from Reykjavik."),
        item("test", "b", "It sailed to Oslo at noon.", expected="The boat left for Oslo at noon."),
        item("test", "c", "No one was hurt.", expected="No one was hurt."),
    ]
    arm = build_columns(rows, "chrf", "bleu", "exact_match")
    together = estimate_metrics(arm, seed=0, resamples=200)
    assert list(together) == ["chrf", "bleu", "exact_match", "retention_kl", "retention_match"]
    assert together["exact_match"].value == pytest.approx(2 / 3)
    for metric in ("chrf", "bleu", "exact_match"):
        assert together[metric] == estimate_metrics(build_columns(rows, metric), seed=0, resamples=200)[metric]
    differences = compare_metrics(
        arm, build_columns([{**row, "answer": "no"} for row in rows], "chrf", "bleu", "exact_match"), seed=0, resamples=200
    )
    assert differences["chrf"].difference is not None and differences["chrf"].difference > 50


def test_a_target_that_the_metric_cannot_match_is_refused() -> None:
    with pytest.raises(UserError, match=r"task\.metric"):
        build_columns([item("test", "a", "{}", expected="not JSON")], "json_match")


def test_arms_are_compared_prompt_by_prompt() -> None:
    arm = build_format_columns(ROWS)
    assert all(map(is_no_difference, compare_metrics(arm, arm, seed=0, resamples=100).values()))
    other = [{**row, "answer": PROSE, "unchanged": False if row["probe"] == "ordinary" else None} for row in ROWS]
    differences = compare_metrics(arm, build_format_columns(other), seed=0, resamples=100)  # pyright: ignore[reportArgumentType]
    assert differences["format_acc"].difference == pytest.approx(0.75)
    assert differences["selectivity"].difference == pytest.approx(1 / 3)
    assert differences["retention_match"].difference == pytest.approx(0.5)
    assert is_no_difference(differences["retention_kl"])


def test_arms_that_answered_other_prompts_are_not_compared() -> None:
    with pytest.raises(AssertionError, match="other prompts"):
        compare_metrics(build_format_columns(ROWS), build_format_columns(ROWS[:-1]), seed=0, resamples=100)


def test_constant_answers_are_scored_over_the_test_items_alone() -> None:
    extra = item("test", "e", PROSE, "yes")
    constants = score_constants(("format",), [*ROWS, extra])
    assert constants == pytest.approx({"label_acc": 3 / 5, "bal_acc": 1 / 2, "f1_yes": 2 * 3 / (3 + 5)})
    assert score_constants(("rouge_l",), [item("test", "a", "x", expected="x")]) == {}


def test_rows_come_back_from_their_arrow_schema_unchanged() -> None:
    table = pa.Table.from_pylist(list(ROWS), schema=GENERATION_SCHEMA)
    assert table.to_pylist() == ROWS
    assert json.loads(json.dumps(ROWS)) == ROWS
    with pytest.raises(ValueError):
        build_generations([prompt("test", "a", "yes")], [], {}, {})
