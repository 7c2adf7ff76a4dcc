"""The metrics that a task names, made ready: checked before anything runs, then taken row by row.

Shape legend: N test rows, K counts of a row.
"""

import json
from collections.abc import Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any, assert_never

import numpy as np
from jsonschema import Draft202012Validator, SchemaError
from numpy.typing import NDArray

from delia_ray.errors import UserError
from delia_ray.evaluation.bootstrap import Columns
from delia_ray.evaluation.corpus_metrics import CORPUS_METRICS, check_tokens, row_counts, tokens_for
from delia_ray.evaluation.format_metrics import parse_verdict
from delia_ray.evaluation.own_metric import MetricFailure, RowMetric, guarded, load_metric, source_file
from delia_ray.evaluation.text_metrics import METRICS, json_schema, regex
from delia_ray.patterns import backtracks
from delia_ray.records import Example
from delia_ray.tasks.config import FormatTask, MessagesTask, TaskConfig, TranslationTask
from delia_ray.tasks.metric_names import JUDGED, is_own_metric

FORMAT = "format"
"""The ``task.metric`` that stands for FormatAcc and its kin."""
_SHOWN_CHARACTERS = 60
_NO_TARGETS = ("", "x", "I do not know. " * 40)
"""What models answer, too; a metric of the user's own must score it."""
_FORMS = ("exact_match", "contains", "json_valid", "json_match", "json_schema", "regex")
_TARGETS_SCORE_1 = ("json_schema", "regex")


def metric_names(task: TaskConfig) -> tuple[str, ...]:
    """``task.metric``, the main one first."""
    match task:
        case FormatTask(metric=metric):
            return (metric,)
        case MessagesTask(metric=metric) | TranslationTask(metric=metric):
            return metric
        case _:
            assert_never(task)


def metric_pattern(task: TaskConfig) -> str | None:
    """``task.pattern``, where the task has one."""
    return task.pattern if isinstance(task, MessagesTask) else None


def metric_files(task: TaskConfig) -> dict[str, Path]:
    """Role -> file outside the config that a metric is made from: a schema, or the source of a function of the user's own."""
    schema = task.schema_ if isinstance(task, MessagesTask) else None
    functions = {name: source_file(load_metric(name)) for name in metric_names(task) if is_own_metric(name)}
    sources = {f"metric {name}": file for name, file in functions.items() if file is not None}
    return {**({} if schema is None else {"metric json_schema": schema}), **sources}


def bleu_tokens(task: TaskConfig, targets: Sequence[str]) -> str | None:
    """The tokenizer that metric bleu takes for these targets; None where the task is not scored by it."""
    if isinstance(task, FormatTask) or "bleu" not in task.metric:
        return None
    return tokens_for(targets) if task.bleu_tokens == "auto" else task.bleu_tokens


def check_metrics(task: TaskConfig, rows: Sequence[Example]) -> None:
    """Try every metric of ``task`` on the target of each of ``rows``, as if a model had written it, and one of the user's own also on
    texts that are no target.

    Raises:
        UserError: the schema, the function or BLEU's tokenizer cannot be used, or a target does not fit its metric.
    """
    targets = [row["messages"][-1]["content"] for row in rows]
    if tokens := bleu_tokens(task, targets):
        check_tokens(tokens)
    if pattern := metric_pattern(task):
        _check_backtracking(pattern, targets)
    for name, metric in _row_metrics(task).items():
        scores_N = _row_scores(name, metric, targets, targets)
        if is_own_metric(name) and targets:
            _row_scores(name, metric, _NO_TARGETS, targets[:1] * len(_NO_TARGETS))
        if name in _TARGETS_SCORE_1 and (short := np.flatnonzero(scores_N < 1)).size:
            row = int(short[0])
            raise UserError(
                f"task.metric: {name}: the target of test row {row + 1}, {targets[row][:_SHOWN_CHARACTERS]!r}, is not of the form that it "
                "asks for; correct the row or the form"
            )


def _check_backtracking(pattern: str, targets: Sequence[str]) -> None:
    if like := next((text for text in targets if backtracks(pattern, text.strip())), None):
        raise UserError(
            f"task.pattern: {pattern!r} takes more than a second to tell that 64 characters like {like[:_SHOWN_CHARACTERS]!r} do not "
            "match, and much longer for each one more; write it without a repeat inside a repeat"
        )


def score_rows(task: TaskConfig, outputs: Sequence[str], targets: Sequence[str]) -> Columns:
    """Metric -> ``[N]`` scores, or for a metric of the whole corpus ``[N, K]`` counts; none for the format task, nor for learned metrics.

    Raises:
        UserError: a function of the user's own gives something other than a number from 0 to 1; or a target does not fit its metric.
    """
    if isinstance(task, FormatTask):
        return {}
    single, tokens = _row_metrics(task), bleu_tokens(task, targets)
    return {
        name: row_counts(name, outputs, targets, tokens) if name in CORPUS_METRICS else _row_scores(name, single[name], outputs, targets)
        for name in metric_names(task)
        if name not in JUDGED
    }


def keeps_target(task: TaskConfig, row: Example, text: str) -> bool:
    """Whether ``text`` does for ``row`` what its target does: its label in the format, or a full score by every metric of a form."""
    if isinstance(task, FormatTask):
        verdict = parse_verdict(text, "json")
        return verdict is not None and verdict.hallucination == row["label"]
    target = row["messages"][-1]["content"]
    return bool(text) and all(metric(text, target) == 1 for name, metric in _row_metrics(task).items() if name in _FORMS)


def _row_metrics(task: TaskConfig) -> Mapping[str, RowMetric]:
    return {name: _row_metric(name, task) for name in metric_names(task) if name not in (*CORPUS_METRICS, *JUDGED, FORMAT)}


def _row_metric(name: str, task: TaskConfig) -> RowMetric:
    if is_own_metric(name):
        return guarded(load_metric(name))
    if isinstance(task, MessagesTask) and name == "json_schema":
        assert task.schema_ is not None, "the config asks for it"
        return json_schema(_read_schema(task.schema_))
    if isinstance(task, MessagesTask) and name == "regex":
        assert task.pattern is not None, "the config asks for it"
        return regex(task.pattern)
    return METRICS[name]


def _row_scores(name: str, metric: RowMetric, outputs: Sequence[str], targets: Sequence[str]) -> NDArray[np.float64]:
    scores_N = np.empty(len(outputs))
    for row, (output, target) in enumerate(zip(outputs, targets, strict=True)):
        try:
            value: object = metric(output, target)
        except MetricFailure as failure:
            raise UserError(
                f"task.metric: {name} raised {failure} for test row {row + 1} (output {output[:_SHOWN_CHARACTERS]!r}); "
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
    """The schema in ``file``, tried.

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
