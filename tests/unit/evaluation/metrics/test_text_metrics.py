import json

import pytest

from delia_ray.core.errors import UserError
from delia_ray.evaluation.metrics.corpus_metrics import CORPUS_METRICS
from delia_ray.evaluation.metrics.text_metrics import TEXT_METRICS, make_json_schema_metric, make_regex_metric
from delia_ray.tasks.answer_metrics import ANSWER_METRICS, LEARNED_METRICS

TARGET = '{"thought": "Right.", "hallucination": "no"}'


def test_every_metric_a_task_may_name_can_be_computed():
    forms = {name for name, metric in ANSWER_METRICS.items() if metric.is_form}  # made from the task's schema or pattern
    assert ANSWER_METRICS.keys() == TEXT_METRICS.keys() | CORPUS_METRICS.keys() | forms | set(LEARNED_METRICS)


@pytest.mark.parametrize("name", TEXT_METRICS)
def test_a_target_scores_1_against_itself(name):
    assert TEXT_METRICS[name](TARGET, TARGET) == 1.0


@pytest.mark.parametrize(
    ("name", "output", "reference", "score"),
    [
        ("exact_match", " Paris\n", "Paris", 1),
        ("exact_match", "paris", "Paris", 0),
        ("exact_match", "Paris.", "Paris", 0),
        ("contains", "It is Paris, France.", " Paris\n", 1),
        ("contains", "It is paris.", "Paris", 0),
        ("contains", "Par", "Paris", 0),
        ("json_valid", ' {"a": 1}\n', "", 1),
        ("json_valid", "[1, 2]", "", 1),
        ("json_valid", '{"a": 1} done', "", 0),
        ("json_valid", '```json\n{"a": 1}\n```', "", 0),
        ("json_valid", "{'a': 1}", "", 0),
        ("json_valid", '{"a": NaN}', "", 0),
        ("json_valid", '{"a": 1, "a": 2}', "", 0),
        ("json_valid", "", "", 0),
        ("json_valid", "[" * 100_000 + "]" * 100_000, "", 0),
        ("json_valid", "9" * 100_000, "", 0),
        ("json_match", '{"b": [1, 2], "a": "x"}', '{"a":"x","b":[1,2]}', 1),
        ("json_match", '{"a": 1.0}', '{"a": 1}', 1),
        ("json_match", '{"a": 1.5e1}', '{"a": 15}', 1),
        ("json_match", '{"a": true}', '{"a": 1}', 0),
        ("json_match", '{"a": "1"}', '{"a": 1}', 0),
        ("json_match", '{"a": [2, 1]}', '{"a": [1, 2]}', 0),
        ("json_match", '{"a": 1, "b": 2}', '{"a": 1}', 0),
        ("json_match", '{"a": "\\u00e9"}', '{"a": "é"}', 1),
        ("json_match", "nonsense", '{"a": 1}', 0),
        ("json_match", "[" * 100_000, '{"a": 1}', 0),
        ("rouge_l", "The cat sat.", "the cat sat", 1),
        ("rouge_l", "the dog sat", "the cat sat", 2 / 3),
    ],
)
def test_a_row_scores_what_its_metric_says(name, output, reference, score):
    result = TEXT_METRICS[name](output, reference)
    assert isinstance(result, float)
    assert result == pytest.approx(score)


def test_a_target_that_is_not_json_is_the_users_to_fix_not_a_score_of_0():
    with pytest.raises(UserError, match=r"'Paris' is not JSON.*task\.metric") as error:
        TEXT_METRICS["json_match"]('{"a": 1}', "Paris")
    assert "\n" not in str(error.value)


SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "minLength": 1}, "age": {"$ref": "#/$defs/age"}},
    "required": ["name"],
    "additionalProperties": False,
    "$defs": {"age": {"type": "integer", "minimum": 0}},
}


@pytest.mark.parametrize(
    ("output", "score"),
    [
        (' {"name": "Ann", "age": 3}\n', 1),
        ('{"name": "Ann", "age": 3.0}', 1),  # 3.0 is an integer to JSON Schema
        ('{"age": 3, "name": "Ann"}', 1),
        ('{"name": ""}', 0),
        ('{"name": "Ann", "age": -1}', 0),
        ('{"name": "Ann", "age": "3"}', 0),
        ('{"name": "Ann", "town": "Oslo"}', 0),
        ('{"name": "Ann", "name": "Bo"}', 0),
        ('```json\n{"name": "Ann"}\n```', 0),
        ("Ann", 0),
        ("", 0),
        ("[" * 100_000 + "]" * 100_000, 0),
    ],
)
def test_an_answer_is_of_the_schema_or_it_is_not(output, score):
    assert make_json_schema_metric(SCHEMA)(output, "whatever") == score


def test_an_answer_of_a_recursive_schema_that_nests_too_deep_scores_0():
    deep = json.loads('{"type": "array", "items": {"$ref": "#"}}')
    assert make_json_schema_metric(deep)("[[], [[]]]", "") == 1
    assert make_json_schema_metric(deep)("[" * 900 + "]" * 900, "") in (0, 1)  # either way, and no error


def test_a_schema_that_refers_to_the_network_is_refused_and_nothing_is_fetched():
    with pytest.raises(UserError, match=r"task\.schema: it refers to 'https://example\.invalid/a\.json'"):
        make_json_schema_metric({"$ref": "https://example.invalid/a.json"})("{}", "")


@pytest.mark.parametrize(
    ("output", "score"), [("3 km = 3000 m", 1), (" 3 km = 3000 m\n", 1), ("It is 3 km = 3000 m", 0), ("3 km = 3000 m.", 0), ("", 0)]
)
def test_a_pattern_matches_the_whole_trimmed_answer(output, score):
    assert make_regex_metric(r"\d+ km = \d+ m")(output, "whatever") == score
