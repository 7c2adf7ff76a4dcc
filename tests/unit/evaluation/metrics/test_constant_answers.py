"""Constant answers: the scores of the best ones."""

import pytest

from delia_ray.evaluation.metrics.constant_answers import score_constant_answers
from delia_ray.evaluation.metrics.format_metrics import Label


def test_every_metric_of_labels_has_the_constant_that_is_best_by_it() -> None:
    constants = score_constant_answers(("format",), ["no", "no", "no", "yes"], ["{}"] * 4)
    # Always "no" is right three times; of F1 of "yes" always "yes" is best: precision 1/4, recall 1.
    assert constants == pytest.approx({"label_acc": 0.75, "bal_acc": 0.5, "f1_yes": 2 / 5})


def test_always_yes_scores_two_thirds_in_f1_where_labels_are_balanced() -> None:
    labels: list[Label] = ["no", "yes"]
    assert score_constant_answers(("format",), labels * 30, [""] * 60)["f1_yes"] == pytest.approx(2 / 3)


def test_one_label_alone_is_won_by_naming_it() -> None:
    assert score_constant_answers(("format",), ["yes", "yes"], ["", ""]) == {"label_acc": 1, "bal_acc": 1, "f1_yes": 1}


def test_of_a_users_targets_the_commonest_is_given_always() -> None:
    targets = [" red", "red\n", "blue", '{"a": 1, "b": 2}', '{"b": 2, "a": 1.0}', '{ "a":1,"b":2 }']
    assert score_constant_answers(("exact_match",), [], targets) == pytest.approx({"exact_match": 2 / 6})
    assert score_constant_answers(("json_match",), [], targets[3:]) == {"json_match": 1.0}
    assert score_constant_answers(("contains",), [], ["yes", "yes", "es", "no"]) == {"contains": 0.75}
    assert score_constant_answers(("contains",), [], ["ye", "ye", "yes and no", "no"]) == {"contains": 1.0}


def test_metrics_that_ask_for_no_answer_among_several_have_none() -> None:
    assert score_constant_answers(("rouge_l", "bleu", "json_valid", "regex", "mine:score"), [], ["a", "a"]) == {}
    assert score_constant_answers(("exact_match",), [], []) == {}
