import pytest

from delia_ray.reporting.schema import Difference, Report
from delia_ray.reporting.verdict import outcome, verdict


def difference(low, high):
    return Difference(difference=(low + high) / 2, low=low, high=high, p=0.01)


def about(sentences, metric):
    return next(sentence for sentence in sentences if metric in sentence)


@pytest.mark.parametrize(
    ("metric", "low", "high", "expected"),
    [
        ("selectivity", 0.2, 0.5, "better"),
        ("selectivity", -0.5, -0.2, "worse"),
        ("spill", 0.2, 0.5, "worse"),
        ("spill", -0.5, -0.2, "better"),
        ("no_token", -0.5, -0.2, "better"),
        ("false_trigger", -0.5, -0.2, "better"),
        ("retention_kl", 0.2, 0.5, "worse"),
        ("retention_match", 0.2, 0.5, "better"),
        ("format_acc", -0.1, 0.1, "not told apart"),
        ("format_acc", 0.0, 0.1, "not told apart"),
        ("exact_match", 0.2, 0.5, "better"),
        ("somebodys_metric", -0.5, -0.2, "lower"),
    ],
)
def test_a_difference_counts_only_clear_of_zero_and_in_the_metrics_own_direction(metric, low, high, expected):
    assert outcome(metric, difference(low, high)) == expected


def test_the_tally_counts_every_compared_metric(report):
    tally = report.verdict[0]
    assert tally == "Of 11 metrics compared with plain tuning, DELIA is better on 6, worse on 1 and not to be told apart on 4."


def test_a_loss_is_said_as_plainly_as_a_win(raw):
    for metric, paired in raw["paired"]["delia-it"].items():
        side = 1 if metric in ("spill", "retention_kl", "no_token", "false_trigger") else -1
        paired.update(difference=0.4 * side, low=0.4 * side - 0.1, high=0.4 * side + 0.1, p=0.001)
    said = verdict(Report.model_validate(raw))
    assert "better on 0, worse on 11" in said[0]
    for metric in raw["paired"]["delia-it"]:
        assert "DELIA loses to plain tuning" in about(said, metric)


def test_a_loss_on_a_secondary_metric_is_not_hidden_among_the_rest(report):
    assert "DELIA loses to plain tuning" in about(report.verdict, "plug_play")


def test_a_high_rate_of_an_arm_that_always_writes_the_format_is_not_taken_for_obedience(raw, report):
    assert "plain tuning also writes the format on 92" in about(report.verdict, "plug_play")
    raw["arms"]["it"]["spill"]["value"] = 0.1
    assert "also writes the format" not in about(verdict(Report.model_validate(raw)), "plug_play")


@pytest.mark.parametrize(
    ("low", "high", "standing"),
    [(0.45, 0.6, "not to be told from"), (0.55, 0.7, "better than"), (0.3, 0.45, "worse than")],
)
def test_a_label_score_is_held_against_the_majority_baseline(raw, low, high, standing):
    raw["arms"]["delia"]["label_acc"].update(value=(low + high) / 2, low=low, high=high)
    sentences = [sentence for sentence in verdict(Report.model_validate(raw)) if "commoner label" in sentence and "DELIA" in sentence]
    assert len(sentences) == 1
    assert standing in sentences[0]


def test_without_a_plainly_tuned_arm_the_verdict_claims_nothing_for_the_diverse_rows(raw):
    del raw["arms"]["it"]
    raw["paired"] = {"delia-base": raw["paired"]["delia-it"]}
    said = verdict(Report.model_validate(raw))
    assert "compared with the untuned model" in said[0]
    assert "not what the diverse rows added" in said[1]


def test_with_nothing_paired_the_verdict_says_that_it_cannot_say(raw):
    raw["paired"] = {}
    assert "does not say whether DELIA helps" in verdict(Report.model_validate(raw))[0]


def test_a_metric_that_was_not_measured_is_said_to_be_missing(raw):
    raw["paired"]["delia-it"]["spill"] = {"difference": None, "low": None, "high": None, "p": None}
    said = verdict(Report.model_validate(raw))
    assert said[0].startswith("Of 10 metrics")
    assert "was not measured" in about(said, "pill")


def test_a_users_own_metric_comes_before_the_built_in_ones(raw):
    raw["arms"]["delia"]["exact_match"] = {"value": 0.6, "low": 0.5, "high": 0.7, "n": 30}
    raw["arms"]["it"]["exact_match"] = {"value": 0.4, "low": 0.3, "high": 0.5, "n": 30}
    raw["paired"]["delia-it"]["exact_match"] = {"difference": 0.2, "low": 0.05, "high": 0.35, "p": 0.01}
    said = verdict(Report.model_validate(raw))
    assert said[1] == (
        "DELIA beats plain tuning on exact match (exact_match): 0.600 against 0.400 (difference +0.200, 95 % interval +0.050 to +0.350)."
    )
    raw["paired"]["delia-it"]["exact_match"]["gain_percent"] = 50.0
    assert verdict(Report.model_validate(raw))[1].endswith("interval +0.050 to +0.350, gain +50.0\N{NO-BREAK SPACE}%).")
