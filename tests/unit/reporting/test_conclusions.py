import pytest

from delia_ray.evaluation.statistics.intervals import Interval
from delia_ray.reporting.schema import MetricDifference, RunReport
from delia_ray.reporting.wording.conclusions import add_conclusions, decide_verdict, write_conclusions
from delia_ray.reporting.wording.formatting import format_number


def difference(low, high, p=0.01, margin=0.12):
    return MetricDifference(difference=(low + high) / 2, low=low, high=high, p=p, mde=0.1, margin=margin)


def find_sentence(sentences, metric):
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
        ("format_acc", -0.2, 0.1, "cannot be told"),
        ("format_acc", 0.0, 0.3, "cannot be told"),
        ("format_acc", -0.1, 0.1, "equivalent"),
        ("format_acc", -0.12, 0.1, "cannot be told"),
        ("spill", -0.1, 0.0, "equivalent"),
        ("spill", 0.01, 0.1, "worse"),
        ("exact_match", 0.2, 0.5, "better"),
        ("somebodys_metric", -0.5, -0.2, "lower"),
    ],
)
def test_a_verdict_needs_an_interval_without_zero_and_follows_the_metrics_better_direction(metric, low, high, expected):
    assert decide_verdict(metric, difference(low, high)) == expected


def test_a_difference_needs_a_significant_p_value_too():
    assert decide_verdict("format_acc", difference(0.01, 0.4, p=0.06)) == "cannot be told"
    assert decide_verdict("format_acc", difference(0.01, 0.4, p=0.05)) == "better"


def test_without_an_interval_the_comparison_is_inconclusive():
    without_interval = MetricDifference(difference=0.9, low=None, high=None, p=None, note="5 wordings")
    assert decide_verdict("format_acc", without_interval) == "cannot be told"
    assert decide_verdict("format_acc", None) == "not measured"


@pytest.mark.parametrize(("low", "high", "expected"), [(0.2, 0.5, "better"), (-0.5, -0.2, "worse")])
def test_the_leader_is_better_only_above_the_best_constant_answer(low, high, expected):
    above, at = (Interval(value=0.8, low=edge, high=0.9, n=80) for edge in (0.7, 0.6))
    assert decide_verdict("f1_yes", difference(low, high), above, 2 / 3) == expected
    assert decide_verdict("f1_yes", difference(low, high), at, 2 / 3) == "cannot be told"
    assert decide_verdict("f1_yes", difference(low, high), None, 2 / 3) == "cannot be told"


def test_a_lead_not_above_a_constant_answer_is_explained(raw):
    raw["arms"]["delia"]["label_acc"].update(value=0.62, low=0.48, high=0.7)
    raw["paired"]["delia-sft"]["label_acc"].update(difference=0.2, low=0.1, high=0.3, p=0.002)
    report = add_conclusions(RunReport.model_validate(raw))
    assert report.paired["delia-sft"]["label_acc"].verdict == "cannot be told"
    sentence = find_sentence(report.verdict, "label_acc")
    assert "cannot be told" in sentence
    assert sentence.endswith(
        "DELIA is ahead, but not significantly above always giving the more common label (0.500), so this does not count as better."
    )


def test_an_inconclusive_comparison_names_the_minimum_detectable_effect(report):
    assert find_sentence(report.verdict, "label_acc").endswith(
        "a true difference of 0.172 would be detected with 80\N{NO-BREAK SPACE}% power)."
    )


def test_arms_within_the_margin_are_called_equivalent_and_the_margin_is_named(raw):
    raw["paired"]["delia-sft"]["spill"].update(difference=0.0, low=-0.04, high=0.04, p=1.0)
    report = add_conclusions(RunReport.model_validate(raw))
    assert report.paired["delia-sft"]["spill"].verdict == "equivalent"
    assert "DELIA and plain tuning are equivalent on spill, where lower is better, within a margin of 0.050" in find_sentence(
        report.verdict, "spill"
    )


def test_no_interval_is_explained(raw):
    raw["paired"]["delia-sft"]["spill"].update(low=None, high=None, p=None, note="5 wordings are too few")
    sentence = find_sentence(write_conclusions(RunReport.model_validate(raw)), "spill")
    assert "cannot be told" in sentence and "no interval: 5 wordings are too few" in sentence


def test_the_tally_counts_every_compared_metric(report):
    tally = report.verdict[0]
    assert tally == (
        "Of 11 metrics compared with plain tuning, DELIA is better on 6, worse on 1 and equivalent within the margin on 0; "
        "on 4 it cannot be told."
    )


def test_a_loss_is_stated_as_plainly_as_a_win(raw):
    for metric, paired in raw["paired"]["delia-sft"].items():
        side = 1 if metric in ("spill", "retention_kl", "no_token", "false_trigger") else -1
        paired.update(difference=0.4 * side, low=0.4 * side - 0.1, high=0.4 * side + 0.1, p=0.001)
    sentences = write_conclusions(RunReport.model_validate(raw))
    assert "better on 0, worse on 8" in sentences[0], "on three metrics plain tuning is not above a constant answer itself"
    for metric in raw["paired"]["delia-sft"]:
        if metric in ("label_acc", "bal_acc", "f1_yes"):
            continue
        assert "DELIA is worse than plain tuning" in find_sentence(sentences, metric)


def test_a_loss_on_a_secondary_metric_is_not_hidden_among_the_rest(report):
    assert "DELIA is worse than plain tuning" in find_sentence(report.verdict, "plug_play")


def test_a_high_rate_of_an_arm_that_always_writes_the_format_has_a_caveat(raw, report):
    assert "plain tuning also writes the format on 92" in find_sentence(report.verdict, "plug_play")
    raw["arms"]["sft"]["spill"]["value"] = 0.1
    assert "also writes the format" not in find_sentence(write_conclusions(RunReport.model_validate(raw)), "plug_play")


@pytest.mark.parametrize(
    ("low", "high", "relation"),
    [(0.45, 0.6, "not distinguishable from"), (0.55, 0.7, "above"), (0.3, 0.45, "below")],
)
def test_a_label_score_is_compared_with_the_best_constant_answer(raw, low, high, relation):
    raw["arms"]["delia"]["label_acc"].update(value=(low + high) / 2, low=low, high=high)
    sentences = [
        sentence for sentence in write_conclusions(RunReport.model_validate(raw)) if sentence.startswith("On right label (label_acc)")
    ]
    assert any(
        f"DELIA ({format_number((low + high) / 2)})" in each and f" {relation} always giving the more common" in each for each in sentences
    )


def test_without_a_plain_tuning_arm_the_conclusions_claim_nothing_about_the_diverse_rows(raw):
    del raw["arms"]["sft"]
    raw["paired"] = {"delia-base": raw["paired"]["delia-sft"]}
    sentences = write_conclusions(RunReport.model_validate(raw))
    assert "compared with the untuned model" in sentences[0]
    assert "not what the diverse rows added" in sentences[1]


def test_without_pairs_the_conclusions_make_no_claim_about_delia(raw):
    raw["paired"] = {}
    assert "does not say whether DELIA helps" in write_conclusions(RunReport.model_validate(raw))[0]


def test_a_metric_that_was_not_measured_is_listed_as_such(raw):
    raw["paired"]["delia-sft"]["spill"] = {"difference": None, "low": None, "high": None, "p": None}
    sentences = write_conclusions(RunReport.model_validate(raw))
    assert sentences[0].startswith("Of 10 metrics")
    assert "was not measured" in find_sentence(sentences, "pill")


def test_a_users_own_metric_comes_before_the_built_in_ones(raw):
    raw["arms"]["delia"]["exact_match"] = {"value": 0.6, "low": 0.5, "high": 0.7, "n": 30}
    raw["arms"]["sft"]["exact_match"] = {"value": 0.4, "low": 0.3, "high": 0.5, "n": 30}
    raw["paired"]["delia-sft"]["exact_match"] = {"difference": 0.2, "low": 0.05, "high": 0.35, "p": 0.01}
    sentences = write_conclusions(RunReport.model_validate(raw))
    assert sentences[1] == (
        "DELIA is better than plain tuning on exact match (exact_match): "
        "0.600 against 0.400 (difference +0.200, 95\N{NO-BREAK SPACE}% interval +0.050 to +0.350)."
    )
    raw["paired"]["delia-sft"]["exact_match"]["gain_percent"] = 50.0
    assert write_conclusions(RunReport.model_validate(raw))[1].endswith("interval +0.050 to +0.350, gain +50.0\N{NO-BREAK SPACE}%).")
