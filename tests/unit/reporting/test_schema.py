import pytest
from pydantic import ValidationError

from delia_ray.reporting.schema import BUILTIN_METRICS, RunReport


def test_a_report_survives_being_written_and_read(report):
    assert RunReport.model_validate_json(report.model_dump_json()) == report


def test_the_record_keeps_the_promised_shape(report):
    written = report.model_dump(mode="json")
    assert list(written["arms"]["delia"]) == list(BUILTIN_METRICS)
    assert set(written["arms"]["delia"]["spill"]) == {
        *("value", "low", "high", "n"),
        *("clusters", "effective_n", "icc", "note"),
    }
    assert set(written["paired"]["delia-sft"]["spill"]) == {
        *("difference", "low", "high", "p", "p_holm"),
        *("gain_percent", "gain_low", "gain_high"),
        *("clusters", "effective_n", "icc", "mde", "margin", "note", "verdict"),
    }
    assert written["stages"]["diverse"] == {"seconds": 214.3, "rows": 192, "tokens": 11873, "rejected": 21}
    assert written["lineage"]["diverse"]["inputs"] == {"model": "ffffffffffff"}


def test_a_value_that_was_not_measured_is_null_and_never_nan(raw):
    raw["arms"]["sft"]["spill"] = {"value": None, "low": None, "high": None, "n": 0}
    assert RunReport.model_validate(raw).get_value("sft", "spill") is None
    raw["arms"]["sft"]["spill"]["value"] = float("nan")
    with pytest.raises(ValidationError, match="finite"):
        RunReport.model_validate(raw)


def test_a_pair_may_name_arms_that_have_hyphens(raw):
    raw["arms"]["delia-no-rewrite"] = raw["arms"]["delia"]
    raw["paired"]["delia-delia-no-rewrite"] = raw["paired"].pop("delia-sft")
    [pair] = RunReport.model_validate(raw).list_pairs()
    assert (pair.left, pair.right) == ("delia", "delia-no-rewrite")


def test_a_pair_of_an_arm_that_is_not_there_is_refused(raw):
    raw["paired"]["delia-replay"] = raw["paired"]["delia-sft"]
    with pytest.raises(ValidationError, match=r"paired\.delia-replay"):
        RunReport.model_validate(raw)


def test_arms_and_metrics_come_in_the_reading_order_whatever_the_record_says(raw):
    raw["arms"] = {arm: dict(reversed(raw["arms"][arm].items())) for arm in ("delia", "sft", "base")}
    raw["arms"]["delia"]["bleu"] = {"value": 20.0, "low": 18.0, "high": 22.0, "n": 9}
    report = RunReport.model_validate(raw)
    assert report.list_arms() == ["base", "sft", "delia"]
    assert report.list_metrics() == ["bleu", *BUILTIN_METRICS]
