import json
import warnings

import numpy as np
import pytest

from delia_ray.evaluation.metrics.format_metrics import (
    INVALID,
    NO,
    YES,
    FormattedOutput,
    bal_acc,
    encode_labels,
    encode_predictions,
    f1_yes,
    format_acc,
    label_acc,
    parse_formatted_output,
    parse_strict_json,
)

MODES = ("json", "python")
GOOD = '{"thought": "Paris is right.", "hallucination": "no"}'
DEEP = 100_000

# Hand-made: 5 gold yes of which 3 are found, 1 missed, 1 invalid; 3 gold no of which 1 is right, 1 wrong, 1 invalid.
GOLD = np.array([YES] * 5 + [NO] * 3, dtype=np.int8)
PREDICTED = np.array([YES, YES, YES, NO, INVALID, NO, YES, INVALID], dtype=np.int8)


@pytest.mark.parametrize("mode", MODES)
def test_an_object_with_a_thought_and_a_label_is_a_verdict(mode):
    assert parse_formatted_output(GOOD, mode) == FormattedOutput("Paris is right.", "no")
    assert parse_formatted_output(f"\n  {GOOD}\t\n", mode) == FormattedOutput("Paris is right.", "no")
    assert parse_formatted_output('{"hallucination":"yes","thought":"It isn\'t."}', mode) == FormattedOutput("It isn't.", "yes")


def test_single_quotes_are_in_the_format_only_where_python_literals_are():
    text = "{'thought': 'Paris is right.', 'hallucination': 'no'}"
    assert parse_formatted_output(text, "json") is None
    assert parse_formatted_output(text, "python") == FormattedOutput("Paris is right.", "no")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n",
        "yes",
        '"yes"',
        "null",
        "None",
        "[]",
        "{}",
        f"[{GOOD}]",
        f"{GOOD} I hope this helps!",
        f"Sure: {GOOD}",
        f"{GOOD}\n{GOOD}",
        f"```json\n{GOOD}\n```",
        GOOD[:-1],
        '{"thought": "a"}',
        '{"hallucination": "no"}',
        '{"thought": "a", "hallucination": "no", "extra": 1}',
        '{"Thought": "a", "hallucination": "no"}',
        '{"thought": "", "hallucination": "no"}',
        '{"thought": "  ", "hallucination": "no"}',
        '{"thought": 1, "hallucination": "no"}',
        '{"thought": ["a"], "hallucination": "no"}',
        '{"thought": "a", "hallucination": "No"}',
        '{"thought": "a", "hallucination": "no "}',
        '{"thought": "a", "hallucination": false}',
        '{"thought": "a", "hallucination": ["no"]}',
        '{"thought": "a", "thought": "b", "hallucination": "no"}',
        '{"thought": "a", "hallucination": "yes", "hallucination": "no"}',
        '{"thought": NaN, "hallucination": "no"}',
        '{"thought": "half an emoji \\ud83d", "hallucination": "no"}',
        '{"thought": "a", "hallucination": "no"}\x00',
        "b'{}'",
        "{b'thought': b'a', b'hallucination': b'no'}",
        "{'thought': b'a', 'hallucination': 'no'}",
        "{[]: 'a', 'hallucination': 'no'}",
        "{'thought': {[]}, 'hallucination': 'no'}",
        "{**{'thought': 'a'}, 'hallucination': 'no'}",
        "dict(thought='a', hallucination='no')",
        "{'thought': __import__('os').getcwd(), 'hallucination': 'no'}",
        "{'thought': f'{1}', 'hallucination': 'no'}",
    ],
)
def test_anything_else_is_not_in_the_format(text, mode):
    assert parse_formatted_output(text, mode) is None


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "value",
    [
        "[" * DEEP,
        "[" * DEEP + "]" * DEEP,
        '{"a":' * DEEP,
        "9" * DEEP,
        "9" * 5_000,
        "-" * DEEP + "1",
        "-" * 20_000 + "1",
        "1" + "+1" * 20_000,
        "a" + ".b" * 20_000,
        "not " * 10_000 + "1",
        '"' + "\\" * (DEEP + 1),
        "1e999999",
    ],
    ids=lambda value: f"{value[:5]}x{len(value)}",
)
def test_no_output_can_break_the_parser(value, mode):
    assert parse_formatted_output(value, mode) is None
    assert parse_formatted_output(f'{{"thought": {value}, "hallucination": "no"}}', mode) is None


def test_a_huge_literal_is_not_even_parsed():
    text = json.dumps({"thought": "a" * 10_000_000, "hallucination": "no"})
    assert parse_formatted_output(text, "python") is None


def test_a_verdict_does_not_depend_on_how_warnings_are_handled():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert parse_formatted_output(r"{'thought': 'about \d', 'hallucination': 'no'}", "python") == FormattedOutput(r"about \d", "no")


@pytest.mark.parametrize(
    "text", ['{"a": 1, "a": 1}', '{"a": {"b": 1, "b": 2}}', "NaN", "[Infinity]", "-Infinity", "1e999", "[1,]", "01", "[" * DEEP]
)
def test_strict_json_refuses_what_parsers_disagree_about(text):
    with pytest.raises(ValueError):
        parse_strict_json(text)


def test_codes_tell_labels_from_outputs_without_one():
    verdicts = [FormattedOutput("a", "yes"), None, FormattedOutput("b", "no")]
    assert encode_predictions(verdicts).tolist() == [YES, INVALID, NO]
    assert encode_labels(["yes", "no"]).tolist() == [YES, NO]


def test_rates_equal_their_hand_computed_values():
    assert format_acc(PREDICTED) == 6 / 8
    assert label_acc(PREDICTED, GOLD) == 4 / 8
    assert bal_acc(PREDICTED, GOLD) == pytest.approx((3 / 5 + 1 / 3) / 2)
    assert f1_yes(PREDICTED, GOLD) == pytest.approx(2 * 3 / (4 + 5))  # precision 3/4, recall 3/5


def test_an_invalid_output_is_never_better_than_a_wrong_one():
    wrong, invalid = np.array([NO, YES], dtype=np.int8), np.array([INVALID, INVALID], dtype=np.int8)
    gold = encode_labels(["yes", "no"])
    for rate in (label_acc, bal_acc, f1_yes):
        assert rate(invalid, gold) == rate(wrong, gold) == 0


def test_a_matrix_of_resamples_is_scored_row_by_row():
    index_RN = np.random.default_rng(0).integers(GOLD.size, size=(50, GOLD.size))
    for rate in (label_acc, bal_acc, f1_yes):
        by_row = [rate(PREDICTED[row], GOLD[row]) for row in index_RN]
        np.testing.assert_allclose(rate(PREDICTED[index_RN], GOLD[index_RN]), by_row)
    np.testing.assert_allclose(format_acc(PREDICTED[index_RN]), [format_acc(PREDICTED[row]) for row in index_RN])


def test_a_resample_without_one_of_the_labels_still_has_finite_rates():
    gold = encode_labels(["no", "no"])
    predicted = np.array([NO, YES], dtype=np.int8)
    assert bal_acc(predicted, gold) == 0.5
    assert f1_yes(np.array([NO, INVALID], dtype=np.int8), gold) == 0
