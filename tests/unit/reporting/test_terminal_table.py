"""The results on the terminal."""

import io
import re

import pytest
from rich.console import Console

from delia_ray.reporting.schema import BUILTIN_METRICS
from delia_ray.reporting.terminal_table import MetricTable, build_results_table


def printed(report, width: int) -> str:
    out = io.StringIO()
    Console(file=out, width=width).print(build_results_table(report))
    return out.getvalue()


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_no_number_is_broken_over_lines_and_none_is_lost(report, width):
    shown = printed(report, width)
    assert max(map(len, shown.splitlines())) <= width
    for arm in report.arms.values():
        for estimate in arm.values():
            assert estimate.note or f"[{estimate.low:.3f}, {estimate.high:.3f}]" in shown
    for difference in report.paired["delia-sft"].values():
        low, high = (f"{end:+.3f}".replace("-", "\N{MINUS SIGN}") for end in (difference.low, difference.high))
        assert f"[{low}, {high}]" in shown


def test_arms_that_do_not_fit_beside_each_other_get_tables_of_their_own(raw, complete_report):
    raw["arms"] |= {f"arm_{n}": raw["arms"]["sft"] for n in range(4)}
    shown = printed(complete_report(raw), 80)
    assert max(map(len, shown.splitlines())) <= 80
    assert shown.count("metric ") == 2 and all(f"arm_{n}" in shown for n in range(4))


def test_a_row_has_the_best_constant_answer_and_the_verdict(report):
    shown = printed(report, 80)
    assert shown.count("constant 0.500") == 2 and "constant 0.667" in shown
    assert len(re.findall(r"\bbetter\b|\bworse\b|\bequivalent\b|cannot be told", shown)) == len(BUILTIN_METRICS)


def test_a_number_without_an_interval_says_so(raw, complete_report):
    raw["arms"]["sft"]["spill"] |= {"low": None, "high": None, "note": "five wordings"}
    raw["arms"]["delia"]["spill"] = {"value": None, "low": None, "high": None, "n": 0}
    assert "no interval" in printed(complete_report(raw), 80)


def test_lm_eval_scores_are_not_broken_over_lines_either():
    out = io.StringIO()
    cells = [f"{value}\n\\[\N{MINUS SIGN}0.123, +0.456]" for value in ("0.412", "0.398")]
    shown = MetricTable("lm-eval", "task, metric", ["a_task_with_a_long_name acc", "b acc"], [(f"arm {n}", cells) for n in range(7)])
    Console(file=out, width=80).print(shown)
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= 80 and out.getvalue().count("[\N{MINUS SIGN}0.123, +0.456]") == 14
