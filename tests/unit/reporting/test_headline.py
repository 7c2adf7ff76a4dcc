import pytest

from delia_ray.reporting.schema import RunReport
from delia_ray.reporting.wording.headline import write_token_headline


def with_rates(raw, arm, requested, plain, unrelated):
    for metric, value in (("format_acc", requested), ("no_token", plain), ("spill", unrelated)):
        raw["arms"][arm][metric] = {"value": value, "low": value, "high": value, "n": 0 if value is None else 64}


@pytest.mark.parametrize(
    ("requested", "plain", "unrelated", "behavior"),
    [
        (0.97, 0.28, 0.0, "writes the format mainly when <sep> asks for it"),
        (1.0, 1.0, 0.04, "writes the format for this task whether or not <sep> asks for it"),
        (1.0, 1.0, 1.0, "writes the format whatever it is asked"),
        (0.1, 0.0, 0.0, "hardly ever writes the format"),
        (0.0, 0.0, 0.0, "never writes the format"),
        (0.9, None, None, "writes the format when <sep> asks for it"),
    ],
)
def test_the_title_says_what_the_rates_show(raw, requested, plain, unrelated, behavior):
    with_rates(raw, "delia", requested, plain, unrelated)
    del raw["arms"]["sft"], raw["paired"]["delia-sft"]
    assert write_token_headline(RunReport.model_validate(raw)) == f"After DELIA, the model {behavior}"


def test_two_arms_that_differ_are_set_against_each_other(report):
    assert write_token_headline(report) == (
        "After DELIA the model writes the format mainly when <sep> asks for it; "
        "after plain tuning it writes the format whatever it is asked"
    )


def test_two_arms_that_do_the_same_share_one_title(raw):
    for arm in ("delia", "sft"):
        with_rates(raw, arm, 1.0, 1.0, 1.0)
    assert write_token_headline(RunReport.model_validate(raw)) == (
        "After DELIA and after plain tuning alike, the model writes the format whatever it is asked"
    )


def test_a_run_of_the_untuned_model_alone_has_a_title(raw):
    raw.update(arms={"base": raw["arms"]["base"]}, paired={})
    assert write_token_headline(RunReport.model_validate(raw)) == "Before tuning, the model never writes the format"
