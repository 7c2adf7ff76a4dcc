import json
from typing import Any

import pytest
import yaml

from delia_ray.core.config import build_config
from delia_ray.core.errors import UserError
from delia_ray.settings import Settings
from delia_ray.synthesis.structured_output import build_structured_outputs, has_form


def form_of(text: str) -> Any:
    structure = build_config(Settings, [], ["run.name=r", f"synthesize.structured={text}"]).synthesize.structured
    assert structure is not None
    return structure


@pytest.mark.parametrize(
    ("form", "parameter", "good", "bad"),
    [
        ("{kind: regex, pattern: '[0-9]{2}'}", {"regex": "[0-9]{2}"}, "12", "123"),
        ("{kind: choice, options: ['yes', 'no']}", {"choice": ["yes", "no"]}, "yes", "Yes"),
        ("{kind: json_schema, schema: {type: object, required: [a]}}", None, '{"a": 1}', '{"b": 1}'),
        ("{kind: json_schema, schema: {type: object}}", {"json": '{"type":"object"}'}, "{}", "{'a': 1}"),
    ],
)
def test_a_form_is_requested_and_recognized(form: str, parameter: dict[str, Any] | None, good: str, bad: str):
    structure = form_of(form)
    assert parameter is None or build_structured_outputs(structure) == parameter
    assert has_form(structure, good) and not has_form(structure, bad) and not has_form(structure, "")
    assert yaml.safe_load(form) == json.loads(structure.model_dump_json())


@pytest.mark.parametrize(
    ("form", "named"),
    [
        ("{kind: json_schema, schema: [1]}", "schema: must be a section of keys"),
        ("{kind: json_schema, schema: {type: 3}}", "schema.*3 is not valid.*write a JSON Schema"),
        ("{kind: json_schema}", "schema: is missing"),
        ("{kind: regex, pattern: '(a'}", "'\\(a' is not a regular expression"),
        ("{kind: choice, options: []}", "options: must hold at least 1"),
        ("{kind: choice, options: ['a ']}", "'a ' has blanks at an end"),
        ("{kind: grammar}", "unknown kind 'grammar'; use 'json_schema'"),
    ],
)
def test_a_form_that_cannot_be_is_refused_in_one_line(form: str, named: str):
    with pytest.raises(UserError, match=f"synthesize.structured.*{named}") as refused:
        form_of(form)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("setting", ["synthesize.answers.temperature=0", "synthesize.mode=foreign"])
def test_several_answers_that_would_be_equal_are_refused(setting: str):
    with pytest.raises(UserError, match=r"draws_per_query: found 3.*set it to 1"):
        build_config(Settings, [], ["run.name=r", "synthesize.draws_per_query=3", setting])
