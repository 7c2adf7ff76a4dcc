import pytest

from delia_ray.evaluation.statistics.intervals import Interval
from delia_ray.probing.predictions.predictions import evaluate_predictions
from delia_ray.probing.predictions.schema import ArmDifference, ArmFacts, Facts, GradientStep, Measurements, Norms, WeightUpdate
from delia_ray.probing.predictions.summary import pair_arms


def make_interval(value: float, half_width: float = 0.1) -> Interval:
    return Interval(value, value - half_width, value + half_width, 8)


def make_difference(difference: float, fewer: str = "sft", more: str = "delia") -> ArmDifference:
    return ArmDifference(fewer=fewer, more=more, difference=difference, low=difference - 0.1, high=difference + 0.1)


def make_measurements(**changes: object) -> Measurements:
    step = {"eta": 1.0, "pull": make_interval(1.0), "predicted": make_interval(1.0)}
    fields = {
        "facts": Facts(
            parameters=100, chosen=80, coordinates=40, rows=8, task_rows=8, fisher_rows=8, products=5, residuals=[0.001],
            answer_tokens=9, foreign="shuffled",
        ),
        "arms": {"sft": ArmFacts(ratio=0, learning_rate=1e-3, steps=4), "delia": ArmFacts(ratio=2, learning_rate=1e-3, steps=4)},
        "norms": {
            name: Norms(plain=make_interval(3.0), corrected=make_interval(2.0), tokens=90) for name in ("own", "pool", "foreign", "task")
        },
        "foreign_minus_own": make_interval(1.0),
        "whole_cosines": {"own": make_interval(0.0), "pool": make_interval(0.0), "foreign": make_interval(0.0)},
        "layers": [],
        "steps": [GradientStep(length=length, cosine=make_interval(value), **step) for length, value in ((0.001, -0.2), (0.01, -0.6))],
        "cosine_change": make_interval(-0.4),
        "eigenvalues": [make_interval(5.0)],
        "updates": {arm: WeightUpdate(whole=3, chosen=2, along=make_interval(1.0), share=make_interval(0.5)) for arm in ("sft", "delia")},
        "along": [make_difference(-0.5)],
        "share": [make_difference(-0.2)],
        "divergences": {"sft": make_interval(0.9), "delia": make_interval(0.3)},
        "diverged": [make_difference(-0.6)],
    }  # fmt: skip
    return Measurements.model_validate(fields | changes)


def test_all_hold_where_every_interval_says_so() -> None:
    predictions = evaluate_predictions(make_measurements(), {"format_acc": [make_difference(0.3)]}, "format")
    assert {key: each.outcome for key, each in predictions.items()} == dict.fromkeys(("P1", "P2", "P3", "P4", "P5"), "holds")


@pytest.mark.parametrize(
    ("key", "changes"),
    [
        ("P1", {"foreign_minus_own": make_interval(0.05)}),
        ("P2", {"cosine_change": make_interval(0.05)}),
        ("P3", {"along": [make_difference(-0.05)]}),
        ("P4", {"diverged": [make_difference(0.05)]}),
    ],
)
def test_an_interval_over_zero_tells_nothing(key: str, changes: dict[str, object]) -> None:
    assert evaluate_predictions(make_measurements(**changes), {}, "format")[key].outcome == "cannot be told"


@pytest.mark.parametrize(
    ("key", "changes"),
    [
        ("P1", {"foreign_minus_own": make_interval(-1.0)}),
        ("P2", {"cosine_change": make_interval(0.5)}),
        ("P3", {"along": [make_difference(-0.5), make_difference(0.5)]}),
        ("P4", {"diverged": [make_difference(0.5)]}),
    ],
)
def test_what_goes_the_other_way_does_not_hold(key: str, changes: dict[str, object]) -> None:
    assert evaluate_predictions(make_measurements(**changes), {}, "format")[key].outcome == "does not hold"


@pytest.mark.parametrize(
    ("moves", "outcome", "words"),
    [
        ([0.3, 0.0], "holds", ["rises", "cannot be told apart"]),
        ([0.3, -0.3], "holds", ["rises", "falls"]),
        ([-0.3, 0.3], "does not hold", ["falls", "rises"]),
        ([0.0], "cannot be told", ["cannot be told apart"]),
    ],
)
def test_p5_may_saturate_or_fall_after_it_rose(moves: list[float], outcome: str, words: list[str]) -> None:
    prediction = evaluate_predictions(make_measurements(), {"format_acc": [make_difference(each) for each in moves]}, "format")["P5"]
    assert prediction.outcome == outcome
    positions = [prediction.sentence.index(word) for word in words]
    assert positions == sorted(positions)


def test_what_was_not_measured_is_said_to_be() -> None:
    predictions = evaluate_predictions(make_measurements(divergences={}, diverged=[], along=[]), {}, "format")
    assert {key for key, each in predictions.items() if each.outcome == "not measured"} == {"P3", "P4", "P5"}


def test_learning_rates_that_differ_are_told() -> None:
    arms = {"sft": ArmFacts(ratio=0, learning_rate=1e-3, steps=4), "delia": ArmFacts(ratio=2, learning_rate=5e-4, steps=4)}
    assert "learning rates" in evaluate_predictions(make_measurements(arms=arms), {}, "format")["P3"].sentence
    assert "learning rates" not in evaluate_predictions(make_measurements(), {}, "format")["P3"].sentence


def test_arms_are_compared_in_the_order_of_their_ratios_and_one_of_each() -> None:
    ratios = {"delia": 6.0, "sft": 0.0, "other-sft": 0.0, "half": 3.0}
    arms = {arm: ArmFacts(ratio=ratio, learning_rate=1e-3, steps=4) for arm, ratio in ratios.items()}
    assert pair_arms(arms) == [("sft", "half"), ("half", "delia")]


def test_a_change_without_an_interval_tells_nothing_and_says_why() -> None:
    few = ArmDifference(fewer="sft", more="delia", difference=-0.6, low=None, high=None, note="5 items are too few for an interval")
    bare = Interval(0.4, None, None, 2, note="2 rows are too few for an interval")
    predictions = evaluate_predictions(
        make_measurements(diverged=[few], foreign_minus_own=bare, cosine_change=bare), {"format_acc": [few]}, "format"
    )
    assert [predictions[key].outcome for key in ("P1", "P2", "P4", "P5")] == ["cannot be told"] * 4
    for key in ("P4", "P5"):
        assert "5 items are too few" in predictions[key].sentence


def test_an_interval_clear_of_0_needs_its_test_to_agree() -> None:
    unsure = ArmDifference(fewer="sft", more="delia", difference=-0.6, low=-1.1, high=-0.1, p=0.06)
    assert evaluate_predictions(make_measurements(diverged=[unsure]), {}, "format")["P4"].outcome == "cannot be told"
    sure = unsure.model_copy(update={"p": 0.03})
    assert evaluate_predictions(make_measurements(diverged=[sure]), {}, "format")["P4"].outcome == "holds"
