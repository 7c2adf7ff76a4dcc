"""The runner of measurements: what it plans, and what it leaves of cases that fail, hang or do not fit."""

import json
import sys
import time
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu import training
from benchmarks.gpu.__main__ import plan, select
from benchmarks.gpu.cases import TRAININGS, Training
from benchmarks.gpu.processes import measure_in_processes
from benchmarks.gpu.record import Record, describe
from benchmarks.gpu.shapes import SHAPES
from delia_ray.core.errors import UserError

CHILD = """
import json, os, sys, time
for case in sys.argv[1:]:
    if case == "dies":
        sys.exit("RuntimeError: out of luck")
    if case == "hangs":
        time.sleep(600)
    print("a line of some library")
    print(json.dumps({"case": case, "outcome": "measured", "process": os.getpid()}), flush=True)
    if case == "last":
        break
"""

FULL = """
import torch
from benchmarks.gpu.child import run_cases

def measure(case, device):
    if case == "large":
        raise torch.OutOfMemoryError
    return {"outcome": "does not fit"} if case == "planned" else {}

run_cases(measure)
"""


def measure(cases: list[str], folder: Path, seconds: float = 60) -> dict[str, dict[str, Any]]:
    deadline = time.monotonic() + seconds
    return dict(measure_in_processes([sys.executable, "-c", CHILD], cases, deadline, folder / "log"))


def test_the_plan_has_every_stage_with_and_without_checkpointing_of_every_large_model_with_lora_and_in_full() -> None:
    planned = [case for group in plan() for case in group.cases]
    assert len(planned) == len(set(planned))
    for shape, parameters, stage, again in product(SHAPES, ("lora", "full"), (0, 1, 2, 3), (False, True)):
        if (shape, parameters) != ("llama-3.2-1b", "lora"):  # the small one is there for what does not fit of the others
            assert Training(shape, parameters, stage, again).name in planned
    assert planned[0] == "tests" and set(TRAININGS) <= set(planned)


def test_a_case_that_fails_costs_no_other_its_figures(tmp_path: Path) -> None:
    found = measure(["a", "dies", "b", "c"], tmp_path)
    assert {case: figures["outcome"] for case, figures in found.items()} == {
        "a": "measured",
        "dies": "failed",
        "b": "measured",
        "c": "measured",
    }
    assert (found["dies"]["code"], found["dies"]["reason"]) == (1, "RuntimeError: out of luck")
    assert found["b"]["process"] == found["c"]["process"] != found["a"]["process"]


def test_a_process_may_leave_the_rest_to_another(tmp_path: Path) -> None:
    found = measure(["last", "a"], tmp_path)
    assert [figures["outcome"] for figures in found.values()] == ["measured"] * 2
    assert found["last"]["process"] != found["a"]["process"]


def test_a_case_that_runs_out_of_memory_is_one_that_does_not_fit(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FULL, "--device", "cpu"]
    found = dict(measure_in_processes(command, ["a", "large", "planned", "b"], time.monotonic() + 120, tmp_path / "log"))
    assert [figures["outcome"] for figures in found.values()] == ["measured", "does not fit", "does not fit", "measured"]
    assert found["large"]["of_gib"] > 0


def test_the_time_ends_a_case_that_hangs_and_names_those_that_it_left_out(tmp_path: Path) -> None:
    began = time.monotonic()
    found = measure(["a", "hangs", "b"], tmp_path, seconds=6)
    assert time.monotonic() - began < 30
    assert {case: figures["outcome"] for case, figures in found.items()} == {"a": "measured", "hangs": "cut off", "b": "no time left"}
    assert measure(["a"], tmp_path, seconds=0) == {"a": {"outcome": "no time left"}}


def test_results_are_on_disk_after_each_case_and_stay_on_the_same_machine_alone(tmp_path: Path) -> None:
    file = tmp_path / "new" / "gpu.json"
    record = Record(file, {"gpu": "one"})
    record.add("a", {"outcome": "measured", "mfu": 0.5})
    assert json.loads(file.read_text())["cases"]["a"]["mfu"] == 0.5
    again = Record(file, {"gpu": "one"})
    again.add("a", {"outcome": "no time left"})
    again.add("b", {"outcome": "does not fit"})
    cases = json.loads(file.read_text())["cases"]
    assert (cases["a"]["mfu"], cases["b"]["outcome"]) == (0.5, "does not fit")
    Record(file, {"gpu": "other"}).add("b", {"outcome": "measured"})
    assert json.loads(file.read_text()) == {
        "machine": {"gpu": "other"},
        "cases": {"b": {"outcome": "measured", "date": cases["b"]["date"]}},
    }


def test_a_line_of_a_case_begins_with_what_did_not_work() -> None:
    assert describe("a", {"outcome": "measured", "seconds": 3.0, "peak_gib": None, "mfu": 0.51234}) == "a: mfu 0.5123, seconds 3"
    assert describe("b", {"outcome": "does not fit", "needs_gib": 119.7}) == "b: does not fit, needs_gib 119.7"


def test_a_model_of_eight_billion_weights_does_not_fit_in_full_into_80_gib_and_an_adapter_on_it_does() -> None:
    full, lora = (training.estimate_needed_gib(Training("llama-3-8b", parameters)) for parameters in ("full", "lora"))
    assert full > 80 > lora


def test_an_unknown_word_is_an_error_that_names_some_cases() -> None:
    assert [group.cases for group in select(plan(), ["tests", "loss/128256/torch"])] == [("tests",), ("loss/128256/torch",)]
    with pytest.raises(UserError, match=r"^--only: no case is called gpt; the first are tests, loss/256000/torch"):
        select(plan(), ["gpt"])
