"""The table of steps names functions by text; each of them must be there."""

import ast
import inspect

import pytest

from delia_ray.pipeline import steps
from delia_ray.pipeline.run import Run
from delia_ray.pipeline.steps import STEPS, load

NAMED = [(step.role, reference) for step in STEPS for reference in (step.outside_inputs, step.page, step.summary) if reference]


@pytest.mark.parametrize(("role", "reference"), NAMED)
def test_every_function_that_the_table_names_is_there(role: str, reference: str):
    assert callable(load(reference))


def test_the_builders_call_methods_that_a_run_has():
    calls = {
        node.attr
        for node in ast.walk(ast.parse(inspect.getsource(steps)))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "run"
    }
    assert calls
    assert not {name for name in calls if not hasattr(Run, name) and name not in {"settings", "arms", "progress", "provenance"}}
