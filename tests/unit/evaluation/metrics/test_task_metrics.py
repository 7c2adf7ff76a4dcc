"""Row metrics of a custom task: schema, pattern and custom functions, checked before anything runs."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from delia_ray.core.errors import UserError
from delia_ray.core.records import Example
from delia_ray.evaluation.metrics.corpus_metrics import extract_row_statistics
from delia_ray.evaluation.metrics.task_metrics import check_metrics, find_metric_files, get_metric_names, resolve_bleu_tokenizer, score_rows
from delia_ray.tasks.config import FormatTask, MessagesTask


def task(**fields: Any) -> MessagesTask:
    return MessagesTask.model_validate({"kind": "messages", "train": "train.jsonl", "test": "test.jsonl", **fields})


def rows(*targets: str) -> list[Example]:
    return [
        {
            "example_id": str(index),
            "group": "task",
            "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": target}],
            "label": None,
        }
        for index, target in enumerate(targets)
    ]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with modules of the user's in it under names of this test's own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(folder: Path, name: str, text: str) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(text)


def test_a_function_of_the_working_folder_scores_each_row(folder: Path) -> None:
    write(folder, "judge_words.py", "def share(output, reference):\n    return len(set(output.split()) & {reference}) / 2\n")
    scores = score_rows(task(metric=["judge_words:share", "exact_match"]), ["a b", "b", "c"], ["a", "b", "a"])
    assert list(scores) == ["judge_words:share", "exact_match"]
    np.testing.assert_array_equal(scores["judge_words:share"], [0.5, 0.5, 0.0])
    np.testing.assert_array_equal(scores["exact_match"], [0.0, 1.0, 0.0])


def test_a_module_inside_a_package_may_import_its_neighbors(folder: Path) -> None:
    write(folder, "judge_package/__init__.py", "")
    write(folder, "judge_package/inner.py", "from judge_package.near import LIMIT\n\ndef f(o, r):\n    return len(o) < LIMIT\n")
    write(folder, "judge_package/near.py", "LIMIT = 3\n")
    assert score_rows(task(metric="judge_package.inner:f"), ["ab", "abc"], ["", ""])["judge_package.inner:f"].tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    ("source", "name", "named"),
    [
        (None, "judge_none:f", "there is no module 'judge_none'"),
        ("import judge_missing_library\n", "judge_a:f", "no module 'judge_missing_library'.*install it"),
        ("def f(:\n", "judge_b:f", "judge_b does not import"),
        ("from json import no_such\n", "judge_c:f", "judge_c does not import"),
        ("def g(o, r):\n    return 1\n", "judge_d:f", "no function 'f'; its functions: g"),
        ("f = 3\n", "judge_e:f", "no function 'f'; its functions: none"),
        ("def f(output):\n    return 1\n", "judge_g:f", r"must take \(output, reference\)"),
    ],
)
def test_a_function_that_cannot_be_used_is_refused_up_front(folder: Path, source: str | None, name: str, named: str) -> None:
    if source is not None:
        write(folder, f"{name.partition(':')[0]}.py", source)
    with pytest.raises(UserError, match=named) as caught:
        check_metrics(task(metric=name), rows("a"))
    assert "task.metric" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("value", ["1.5", "-0.1", "float('nan')", "'1'", "None", "[1]"])
def test_a_score_that_is_no_number_from_0_to_1_names_the_row(folder: Path, value: str) -> None:
    module = f"judge_value_{abs(hash(value))}"
    write(folder, f"{module}.py", f"def f(output, reference):\n    return 1 if output == 'fine' else {value}\n")
    with pytest.raises(UserError, match=r"gave .* for test row 2 \(output 'odd'\); a score is a number from 0 to 1"):
        score_rows(task(metric=f"{module}:f"), ["fine", "odd"], ["", ""])
    with pytest.raises(UserError, match="test row 2"):
        check_metrics(task(metric=f"{module}:f"), rows("fine", "odd"))


@pytest.mark.parametrize("value", ["True", "1", "__import__('numpy').float32(1)", "__import__('numpy').bool_(True)"])
def test_any_kind_of_number_will_do(folder: Path, value: str) -> None:
    module = f"judge_kind_{abs(hash(value))}"
    write(folder, f"{module}.py", f"def f(output, reference):\n    return {value}\n")
    assert score_rows(task(metric=f"{module}:f"), ["a"], ["a"])[f"{module}:f"].tolist() == [1.0]


def test_what_a_metric_is_made_from_is_named_so_that_a_change_is_noticed(folder: Path) -> None:
    write(folder, "judge_source.py", "def f(output, reference):\n    return 1\n")
    write(folder, "form.json", "{}")
    custom = task(metric=["judge_source:f", "json_schema", "operator:eq", "chrf"], schema="form.json")
    assert find_metric_files(custom) == {"metric json_schema": Path("form.json"), "metric judge_source:f": folder / "judge_source.py"}
    assert find_metric_files(FormatTask()) == {}
    assert pickle.loads(pickle.dumps(custom)) == custom  # a task holds the function's name, not the function


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (None, r"form\.json: No such file"),
        ("{", "is not JSON"),
        ('{"type": "objekt"}', r"at \$\.type: 'objekt' is not valid"),
        ('{"$ref": "other.json"}', r"refers to 'other\.json'"),
        ('{"type": "array"}', r"the target of test row 1, '\{\}', is not of the form"),
    ],
)
def test_a_schema_that_cannot_be_used_is_refused_up_front(folder: Path, content: str | None, named: str) -> None:
    if content is not None:
        write(folder, "form.json", content)
    with pytest.raises(UserError, match=named) as caught:
        check_metrics(task(metric="json_schema", schema="form.json"), rows("{}"))
    assert "\n" not in str(caught.value)


def test_targets_of_the_form_pass_and_others_are_named(folder: Path) -> None:
    write(folder, "form.json", json.dumps({"type": "array"}))
    check_metrics(task(metric=["json_schema", "regex"], schema="form.json", pattern=r"\[.*\]"), rows("[1]", "[]"))
    with pytest.raises(UserError, match=r"regex: the target of test row 2, 'b'"):
        check_metrics(task(metric="regex", pattern="a+"), rows("aa", "b"))
    with pytest.raises(UserError, match="is not JSON"):
        check_metrics(task(metric="json_match"), rows("{}", "prose"))


def test_metrics_of_the_whole_corpus_come_as_counts_of_each_row() -> None:
    scores = score_rows(task(metric=["chrf", "bleu"]), ["a b c", "d"], ["a b c", "e"])
    assert [len(column) for column in scores.values()] == [2, 2]
    assert all(column.ndim == 2 for column in scores.values())


def test_the_format_task_has_rates_of_its_own() -> None:
    assert get_metric_names(FormatTask()) == ("format",)
    assert score_rows(FormatTask(), ["x"], ["y"]) == {}
    check_metrics(FormatTask(), rows("x"))


RAISING = {
    "judge_json:f": "import json\n\ndef f(output, reference):\n    return float(json.loads(output) == json.loads(reference))\n",
    "judge_first:f": "def f(output, reference):\n    return float(output.split()[0] == reference)\n",
    "judge_own:f": "class Odd(Exception):\n    pass\n\n"
    "def f(output, reference):\n    if len(output) > 99:\n        raise Odd('too long\\nby far')\n    return 1\n",
    "judge_exit:f": "import sys\n\ndef f(output, reference):\n    return 1 if output == reference else sys.exit('no')\n",
}


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("judge_json:f", r"raised json\.decoder\.JSONDecodeError: .* in judge_json\.py line 4 for test row 1 \(output ''\)"),
        ("judge_first:f", r"raised IndexError: list index out of range in judge_first\.py line 2 for test row 1 \(output ''\)"),
        ("judge_own:f", r"raised judge_own\.Odd: too long by far .* for test row \d \(output 'I do not know\."),
        ("judge_exit:f", r"raised SystemExit: no .* \(output ''\)"),
    ],
)
def test_a_function_that_raises_on_what_a_model_may_answer_is_refused_up_front(folder: Path, name: str, named: str) -> None:
    write(folder, f"{name.partition(':')[0]}.py", RAISING[name])
    with pytest.raises(UserError, match=named) as caught:
        check_metrics(task(metric=name), rows("1"))
    assert f"task.metric: {name}" in str(caught.value) and "\n" not in str(caught.value)


def test_an_output_that_makes_a_function_raise_later_is_named_by_row(folder: Path) -> None:
    write(folder, "judge_later.py", "def f(output, reference):\n    return 1 / (output != 'zero')\n")
    check_metrics(task(metric="judge_later:f"), rows("1"))
    with pytest.raises(UserError, match=r"judge_later:f raised ZeroDivisionError: .* for test row 3 \(output 'zero'\)"):
        score_rows(task(metric="judge_later:f"), ["a", "b", "zero"], ["a", "b", "c"])


@pytest.mark.parametrize(("pattern", "target"), [(r"(a|aa)+b", "aab"), (r"(\w|\w\w)+;", "one;"), (r"(?:[a-z ]|[a-z]{2})+\.", "two words.")])
def test_a_pattern_that_would_backtrack_for_ever_is_refused_by_name_before_anything_runs(pattern: str, target: str) -> None:
    with pytest.raises(UserError, match=r"task\.pattern: .* takes more than a second .* repeat inside a repeat"):
        check_metrics(task(metric="regex", pattern=pattern), rows(target))


def test_bleu_counts_what_fits_the_targets_or_what_was_chosen() -> None:
    outputs, targets = ["昨天下了雨。"], ["昨天也下了雨。"]
    assert resolve_bleu_tokenizer(task(metric="chrf"), targets) is resolve_bleu_tokenizer(FormatTask(), targets) is None
    assert resolve_bleu_tokenizer(task(metric="bleu"), targets) == "zh"
    chosen = task(metric=["bleu", "chrf"], bleu_tokens="char")
    assert resolve_bleu_tokenizer(chosen, targets) == "char"
    np.testing.assert_array_equal(score_rows(chosen, outputs, targets)["bleu"], extract_row_statistics("bleu", outputs, targets, "char"))
    np.testing.assert_array_equal(
        score_rows(task(metric="bleu"), outputs, targets)["bleu"], extract_row_statistics("bleu", outputs, targets, "zh")
    )


def test_a_tokenizer_without_its_package_is_refused_up_front(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sacrebleu.tokenizers.tokenizer_ja_mecab.MeCab", None)
    with pytest.raises(UserError, match=r"task\.bleu_tokens: ja-mecab needs a package"):
        check_metrics(task(metric="bleu", bleu_tokens="ja-mecab"), rows("雨です。"))
    check_metrics(task(metric="bleu"), rows("雨です。"))
