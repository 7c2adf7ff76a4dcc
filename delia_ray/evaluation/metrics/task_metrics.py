"""The row metrics that a task names: checked before anything runs, then computed for each test row.

Shape legend: N test rows, K sufficient statistics of a row.
"""

import json
from collections.abc import Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any, assert_never

import numpy as np
from jsonschema import Draft202012Validator, SchemaError
from numpy.typing import NDArray

from delia_ray.core.errors import UserError
from delia_ray.core.records import Example
from delia_ray.core.text.patterns import has_catastrophic_backtracking
from delia_ray.evaluation.metrics.corpus_metrics import CORPUS_METRICS, check_bleu_tokenizer, choose_bleu_tokenizer, extract_row_statistics
from delia_ray.evaluation.metrics.format_metrics import parse_formatted_output
from delia_ray.evaluation.metrics.own_metric import MetricError, RowMetric, find_source_file, load_metric, wrap_exceptions
from delia_ray.evaluation.metrics.text_metrics import TEXT_METRICS, make_json_schema_metric, make_regex_metric
from delia_ray.evaluation.statistics.intervals import Columns
from delia_ray.tasks.answer_metrics import ANSWER_METRICS, LEARNED_METRICS, OWN_METRIC, is_own_metric
from delia_ray.tasks.config import FormatTask, MessagesTask, TaskConfig, TranslationTask

FORMAT = "format"
"""The ``task.metric`` of the built-in task: FormatAcc and the other rates of ``format_metrics``."""
_SHOWN_CHARACTERS = 60
_UNEXPECTED_OUTPUTS = ("", "x", "I do not know. " * 40)
"""Outputs that are no target, but that models also give; a custom metric must score them."""


def get_metric_names(task: TaskConfig) -> tuple[str, ...]:
    """Return the names in ``task.metric``, the main metric first."""
    match task:
        case FormatTask(metric=metric):
            return (metric,)
        case MessagesTask(metric=metric) | TranslationTask(metric=metric):
            return metric
        case _:
            assert_never(task)


def get_metric_pattern(task: TaskConfig) -> str | None:
    """Return ``task.pattern``; None if the task has none."""
    return task.pattern if isinstance(task, MessagesTask) else None


def find_metric_files(task: TaskConfig) -> dict[str, Path]:
    """Return role -> file that a metric of ``task`` depends on: the JSON Schema, and the source files of custom metrics."""
    schema = task.schema_ if isinstance(task, MessagesTask) else None
    files = {name: find_source_file(load_metric(name)) for name in get_metric_names(task) if is_own_metric(name)}
    sources = {f"metric {name}": file for name, file in files.items() if file is not None}
    return {**({} if schema is None else {"metric json_schema": schema}), **sources}


def resolve_bleu_tokenizer(task: TaskConfig, targets: Sequence[str]) -> str | None:
    """Return BLEU's tokenizer for these targets; None if BLEU is not among the task's metrics."""
    if isinstance(task, FormatTask) or "bleu" not in task.metric:
        return None
    return choose_bleu_tokenizer(targets) if task.bleu_tokens == "auto" else task.bleu_tokens


def check_metrics(task: TaskConfig, rows: Sequence[Example]) -> None:
    """Check every row metric of ``task`` by scoring each row's target against itself; custom metrics also on other outputs.

    Raises:
        UserError: the schema, the function or BLEU's tokenizer cannot be used, or a target does not fit its metric.
    """
    targets = [row["messages"][-1]["content"] for row in rows]
    if tokenizer := resolve_bleu_tokenizer(task, targets):
        check_bleu_tokenizer(tokenizer)
    if pattern := get_metric_pattern(task):
        _check_backtracking(pattern, targets)
    for name, metric in _make_row_metrics(task).items():
        scores_N = _apply_row_metric(name, metric, targets, targets)
        if is_own_metric(name) and targets:
            _apply_row_metric(name, metric, _UNEXPECTED_OUTPUTS, targets[:1] * len(_UNEXPECTED_OUTPUTS))
        if ANSWER_METRICS.get(name, OWN_METRIC).is_form and (failures := np.flatnonzero(scores_N < 1)).size:
            row = int(failures[0])
            raise UserError(
                f"task.metric: {name}: the target of test row {row + 1}, {targets[row][:_SHOWN_CHARACTERS]!r}, is not of the form that it "
                "asks for; correct the row or the form"
            )


def _check_backtracking(pattern: str, targets: Sequence[str]) -> None:
    if target := next((text for text in targets if has_catastrophic_backtracking(pattern, text.strip())), None):
        raise UserError(
            f"task.pattern: {pattern!r} takes more than a second to tell that 64 characters like {target[:_SHOWN_CHARACTERS]!r} do not "
            "match, and much longer for each one more; write it without a repeat inside a repeat"
        )


def score_rows(task: TaskConfig, outputs: Sequence[str], targets: Sequence[str]) -> Columns:
    """Compute the row metrics of ``task``, except learned metrics; the format task has none.

    Returns:
        Metric -> ``[N]`` scores, or for a corpus metric ``[N, K]`` sufficient statistics.

    Raises:
        UserError: a custom metric gives something other than a number from 0 to 1, or a target does not fit its metric.
    """
    if isinstance(task, FormatTask):
        return {}
    metrics, tokenizer = _make_row_metrics(task), resolve_bleu_tokenizer(task, targets)
    return {
        name: extract_row_statistics(name, outputs, targets, tokenizer)
        if name in CORPUS_METRICS
        else _apply_row_metric(name, metrics[name], outputs, targets)
        for name in get_metric_names(task)
        if name not in LEARNED_METRICS
    }


def is_equivalent_target(task: TaskConfig, row: Example, text: str) -> bool:
    """Whether ``text`` may replace the target of ``row``: it has the row's label in the format, or scores 1 by every binary metric."""
    if isinstance(task, FormatTask):
        output = parse_formatted_output(text, "json")
        return output is not None and output.hallucination == row["label"]
    target = row["messages"][-1]["content"]
    metrics = _make_row_metrics(task).items()
    return bool(text) and all(metric(text, target) == 1 for name, metric in metrics if ANSWER_METRICS.get(name, OWN_METRIC).is_binary)


def _make_row_metrics(task: TaskConfig) -> Mapping[str, RowMetric]:
    return {
        name: _make_row_metric(name, task) for name in get_metric_names(task) if name not in (*CORPUS_METRICS, *LEARNED_METRICS, FORMAT)
    }


def _make_row_metric(name: str, task: TaskConfig) -> RowMetric:
    if is_own_metric(name):
        return wrap_exceptions(load_metric(name))
    if isinstance(task, MessagesTask) and name == "json_schema":
        assert task.schema_ is not None, "the config requires it"
        return make_json_schema_metric(_read_schema(task.schema_))
    if isinstance(task, MessagesTask) and name == "regex":
        assert task.pattern is not None, "the config requires it"
        return make_regex_metric(task.pattern)
    return TEXT_METRICS[name]


def _apply_row_metric(name: str, metric: RowMetric, outputs: Sequence[str], targets: Sequence[str]) -> NDArray[np.float64]:
    scores_N = np.empty(len(outputs))
    for row, (output, target) in enumerate(zip(outputs, targets, strict=True)):
        try:
            value: object = metric(output, target)
        except MetricError as error:
            raise UserError(
                f"task.metric: {name} raised {error} for test row {row + 1} (output {output[:_SHOWN_CHARACTERS]!r}); "
                "let it give a number from 0 to 1 for any output"
            ) from None
        if not isinstance(value, Real | np.bool_) or not 0 <= float(value) <= 1:
            raise UserError(
                f"task.metric: {name} gave {value!r} for test row {row + 1} (output {output[:_SHOWN_CHARACTERS]!r}); "
                "a score is a number from 0 to 1"
            )
        scores_N[row] = float(value)
    return scores_N


def _read_schema(file: Path) -> Any:
    """Read and validate the JSON Schema in ``file``.

    Raises:
        UserError: it cannot be read, is no JSON Schema, or refers to another file.
    """
    try:
        schema: Any = json.loads(file.read_text(encoding="utf-8"))
        Draft202012Validator.check_schema(schema)
    except OSError as error:
        raise UserError(f"task.schema: {file}: {error.strerror}; name a file that can be read") from None
    except ValueError as error:
        raise UserError(f"task.schema: {file} is not JSON ({error}); write a JSON Schema") from None
    except SchemaError as error:
        raise UserError(f"task.schema: {file} at {error.json_path}: {error.message.splitlines()[0][:200]}; write a JSON Schema") from None
    return schema
