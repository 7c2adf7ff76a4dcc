import pytest

from delia_ray.reporting.finding import token_finding
from delia_ray.reporting.schema import Report


def with_rates(raw, arm, asked, plain, stray):
    for metric, value in (("format_acc", asked), ("no_token", plain), ("spill", stray)):
        raw["arms"][arm][metric] = {"value": value, "low": value, "high": value, "n": 0 if value is None else 64}


@pytest.mark.parametrize(
    ("asked", "plain", "stray", "behaviour"),
    [
        (0.97, 0.28, 0.0, "writes the format mainly when <sep> asks for it"),
        (1.0, 1.0, 0.04, "writes the format for this task whether or not <sep> asks for it"),
        (1.0, 1.0, 1.0, "writes the format whatever it is asked"),
        (0.1, 0.0, 0.0, "hardly ever writes the format"),
        (0.0, 0.0, 0.0, "never writes the format"),
        (0.9, None, None, "writes the format when <sep> asks for it"),
    ],
)
def test_the_title_says_what_the_rates_show(raw, asked, plain, stray, behaviour):
    with_rates(raw, "delia", asked, plain, stray)
    del raw["arms"]["it"], raw["paired"]["delia-it"]
    assert token_finding(Report.model_validate(raw)) == f"After DELIA, the model {behaviour}"


def test_two_arms_that_differ_are_set_against_each_other(report):
    assert token_finding(report) == (
        "After DELIA the model writes the format mainly when <sep> asks for it; "
        "after plain tuning it writes the format whatever it is asked"
    )


def test_two_arms_that_do_the_same_share_one_title(raw):
    for arm in ("delia", "it"):
        with_rates(raw, arm, 1.0, 1.0, 1.0)
    assert token_finding(Report.model_validate(raw)) == (
        "After DELIA and after plain tuning alike, the model writes the format whatever it is asked"
    )


def test_a_run_of_the_untuned_model_alone_has_a_title(raw):
    raw.update(arms={"base": raw["arms"]["base"]}, paired={})
    assert token_finding(Report.model_validate(raw)) == "Before tuning, the model never writes the format"
