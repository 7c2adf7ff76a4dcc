import pytest

from delia_ray.evaluation.bootstrap import Interval
from delia_ray.probing.findings import ArmFacts, Change, Facts, Measured, Norms, Step, Update
from delia_ray.probing.summary import ladder
from delia_ray.probing.verdict import predictions


def about(value: float, reach: float = 0.1) -> Interval:
    return Interval(value, value - reach, value + reach, 8)


def change(difference: float, fewer: str = "it", more: str = "delia") -> Change:
    return Change(fewer=fewer, more=more, difference=difference, low=difference - 0.1, high=difference + 0.1)


def measured(**changes: object) -> Measured:
    step = {"eta": 1.0, "pull": about(1.0), "predicted": about(1.0)}
    fields = {
        "facts": Facts(
            parameters=100, chosen=80, coordinates=40, rows=8, task_rows=8, fisher_rows=8, products=5, residuals=[0.001],
            answer_tokens=9, foreign="shuffled",
        ),
        "arms": {"it": ArmFacts(ratio=0, learning_rate=1e-3, steps=4), "delia": ArmFacts(ratio=2, learning_rate=1e-3, steps=4)},
        "norms": {name: Norms(plain=about(3.0), corrected=about(2.0), tokens=90) for name in ("own", "pool", "foreign", "task")},
        "foreign_minus_own": about(1.0),
        "whole_cosines": {"own": about(0.0), "pool": about(0.0), "foreign": about(0.0)},
        "layers": [],
        "steps": [Step(length=0.001, cosine=about(-0.2), **step), Step(length=0.01, cosine=about(-0.6), **step)],
        "cosine_change": about(-0.4),
        "eigenvalues": [about(5.0)],
        "updates": {arm: Update(whole=3, chosen=2, along=about(1.0), share=about(0.5)) for arm in ("it", "delia")},
        "along": [change(-0.5)],
        "share": [change(-0.2)],
        "divergences": {"it": about(0.9), "delia": about(0.3)},
        "diverged": [change(-0.6)],
    }  # fmt: skip
    return Measured.model_validate(fields | changes)


def test_all_hold_where_every_interval_says_so() -> None:
    found = predictions(measured(), {"format_acc": [change(0.3)]}, "format")
    assert {key: each.outcome for key, each in found.items()} == dict.fromkeys(("P1", "P2", "P3", "P4", "P5"), "holds")


@pytest.mark.parametrize(
    ("key", "changes"),
    [
        ("P1", {"foreign_minus_own": about(0.05)}),
        ("P2", {"cosine_change": about(0.05)}),
        ("P3", {"along": [change(-0.05)]}),
        ("P4", {"diverged": [change(0.05)]}),
    ],
)
def test_an_interval_over_zero_tells_nothing(key: str, changes: dict[str, object]) -> None:
    assert predictions(measured(**changes), {}, "format")[key].outcome == "cannot be told"


@pytest.mark.parametrize(
    ("key", "changes"),
    [
        ("P1", {"foreign_minus_own": about(-1.0)}),
        ("P2", {"cosine_change": about(0.5)}),
        ("P3", {"along": [change(-0.5), change(0.5)]}),
        ("P4", {"diverged": [change(0.5)]}),
    ],
)
def test_what_goes_the_other_way_does_not_hold(key: str, changes: dict[str, object]) -> None:
    assert predictions(measured(**changes), {}, "format")[key].outcome == "does not hold"


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
    found = predictions(measured(), {"format_acc": [change(each) for each in moves]}, "format")["P5"]
    assert found.outcome == outcome
    places = [found.sentence.index(word) for word in words]
    assert places == sorted(places)


def test_what_was_not_measured_is_said_to_be() -> None:
    found = predictions(measured(divergences={}, diverged=[], along=[]), {}, "format")
    assert {key for key, each in found.items() if each.outcome == "not measured"} == {"P3", "P4", "P5"}


def test_learning_rates_that_differ_are_told() -> None:
    arms = {"it": ArmFacts(ratio=0, learning_rate=1e-3, steps=4), "delia": ArmFacts(ratio=2, learning_rate=5e-4, steps=4)}
    assert "learning rates" in predictions(measured(arms=arms), {}, "format")["P3"].sentence
    assert "learning rates" not in predictions(measured(), {}, "format")["P3"].sentence


def test_arms_are_compared_in_the_order_of_their_ratios_and_one_of_each() -> None:
    ratios = {"delia": 6.0, "it": 0.0, "other-it": 0.0, "half": 3.0}
    arms = {arm: ArmFacts(ratio=ratio, learning_rate=1e-3, steps=4) for arm, ratio in ratios.items()}
    assert ladder(arms) == [("it", "half"), ("half", "delia")]


def test_a_change_without_an_interval_tells_nothing_and_says_why() -> None:
    few = Change(fewer="it", more="delia", difference=-0.6, low=None, high=None, note="5 items are too few for an interval")
    bare = Interval(0.4, None, None, 2, note="2 rows are too few for an interval")
    told = predictions(measured(diverged=[few], foreign_minus_own=bare, cosine_change=bare), {"format_acc": [few]}, "format")
    assert [told[key].outcome for key in ("P1", "P2", "P4", "P5")] == ["cannot be told"] * 4
    for key in ("P4", "P5"):
        assert "5 items are too few" in told[key].sentence


def test_an_interval_clear_of_0_needs_its_test_to_agree() -> None:
    unsure = Change(fewer="it", more="delia", difference=-0.6, low=-1.1, high=-0.1, p=0.06)
    assert predictions(measured(diverged=[unsure]), {}, "format")["P4"].outcome == "cannot be told"
    sure = unsure.model_copy(update={"p": 0.03})
    assert predictions(measured(diverged=[sure]), {}, "format")["P4"].outcome == "holds"
