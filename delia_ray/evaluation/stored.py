"""The artifact ``scores``: write it, read it and compare two of them.

``generations.parquet`` has every prompt and answer, ``row_scores.parquet`` each test row's score by each of the task's own metrics (for
BLEU and chrF++ sacreBLEU's sufficient statistics of the row), and ``scores.json`` every metric with its interval, and for BLEU and chrF++
with sacreBLEU's signature.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from dataclasses import fields as dataclass_fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from delia_ray.core.artifacts import Artifact, Counts
from delia_ray.core.errors import UserError
from delia_ray.evaluation import scoring
from delia_ray.evaluation.config import ScoreConfig
from delia_ray.evaluation.metrics.corpus_metrics import CORPUS_METRICS, DEFAULT_TOKENIZER, get_signature
from delia_ray.evaluation.metrics.definitions import define_metrics
from delia_ray.evaluation.metrics.task_metrics import FORMAT
from delia_ray.evaluation.scoring import GENERATION_SCHEMA, ArmColumns, GenerationRow
from delia_ray.evaluation.statistics.intervals import Columns, Interval, PairedDifference

SCORES_KIND = "scores/3"
_GENERATIONS = "generations.parquet"
_ROW_SCORES = "row_scores.parquet"
_SCORES = "scores.json"
_INTERVAL_FIELDS = tuple(field.name for field in dataclass_fields(Interval))


def write_scores(
    rows: Sequence[GenerationRow], row_scores: Columns, config: ScoreConfig, data: Path, bleu_tokenizer: str | None = DEFAULT_TOKENIZER
) -> Counts:
    """Compute the metrics, write the files of the artifact into ``data``, and return the number of rows.

    Args:
        rows: all prompts and answers.
        row_scores: metric -> scores or sufficient statistics of the test rows (``task_metrics.score_rows``); empty for the format task.
        config: seed and resamples of the bootstrap.
        data: the data folder of the artifact.
        bleu_tokenizer: BLEU's tokenizer, for its signature.
    """
    pq.write_table(pa.Table.from_pylist(list(rows), schema=GENERATION_SCHEMA), data / _GENERATIONS)
    arm = _build_columns(rows, row_scores)
    if row_scores:
        columns = {name: pa.array(column.tolist(), _get_stored_type(name)) for name, column in row_scores.items()}
        pq.write_table(pa.table({"prompt_id": pa.array(arm.prompt_ids["test"], pa.string()), **columns}), data / _ROW_SCORES)
    intervals = scoring.estimate_metrics(arm, config.seed, config.resamples)
    scores = {name: {**asdict(interval), **_make_signature_field(name, bleu_tokenizer)} for name, interval in intervals.items()}
    (data / _SCORES).write_text(json.dumps(scores, indent=1, allow_nan=False) + "\n")
    return {"rows": len(rows)}


def read_generations(scores: Artifact) -> list[GenerationRow]:
    """Read every prompt and answer, in the order of the prompts."""
    return pq.read_table(scores.fetch(_GENERATIONS), schema=GENERATION_SCHEMA).to_pylist()


def read_scores(scores: Artifact) -> dict[str, Interval]:
    """Read metric -> value and interval."""
    return {name: Interval(**{key: fields[key] for key in _INTERVAL_FIELDS}) for name, fields in _read_json(scores).items()}


def read_signatures(scores: Artifact) -> dict[str, str]:
    """Read metric -> signature, for the metrics that have one."""
    return {name: fields["signature"] for name, fields in _read_json(scores).items() if "signature" in fields}


def read_columns(scores: Artifact) -> ArmColumns:
    """Read the columns that the metrics are computed from, for a comparison of arms."""
    metrics: list[str] = scores.manifest.request["metric"]
    row_scores: dict[str, np.ndarray] = {}
    if metrics != [FORMAT]:
        table = pq.read_table(scores.fetch(_ROW_SCORES))
        row_scores = {name: np.array(table[name].to_pylist(), np.int64 if name in CORPUS_METRICS else np.float64) for name in metrics}
    return _build_columns(read_generations(scores), row_scores)


def compare_scores(left: Artifact, right: Artifact, config: ScoreConfig) -> dict[str, PairedDifference]:
    """Estimate every metric of ``left`` minus that of ``right``, paired by prompt.

    A difference has no relative gain if the right arm's value does not exceed the best constant answer's score.

    Raises:
        UserError: the two have other prompts, or other BLEU tokenizers.
    """
    left_columns, right_columns = read_columns(left), read_columns(right)
    differing = [
        item_set
        for item_set, ids in left_columns.prompt_ids.items()
        if ids and right_columns.prompt_ids[item_set] and ids != right_columns.prompt_ids[item_set]
    ]
    if left_columns.metrics != right_columns.metrics or differing:
        raise UserError(f"{left.path} and {right.path} hold answers to other prompts; score both with the same task and `score` settings")
    tokenizers = [arm.manifest.request.get("bleu_tokens") for arm in (left, right)]
    if tokenizers[0] != tokenizers[1]:
        both = " and ".join(map(repr, tokenizers))
        raise UserError(f"{left.path} and {right.path} count BLEU by {both}; score both again with one task.bleu_tokens")
    constants, right_scores, metrics = score_constants(right), read_scores(right), define_metrics(left_columns.metrics)
    differences: dict[str, PairedDifference] = {}
    for name, difference in scoring.compare_metrics(left_columns, right_columns, config.seed, config.resamples).items():
        margin = getattr(config.margins, metrics[name].scale)
        differences[name] = replace(difference, margin=None if difference.difference is None else margin)
        value = right_scores[name].value
        if name in constants and value is not None and value <= constants[name]:
            differences[name] = replace(differences[name], gain_percent=None, gain_low=None, gain_high=None)
    return differences


def score_constants(scores: Artifact) -> dict[str, float]:
    """Metric -> score of the best constant answer to the test items; empty for a task whose metrics ask for no one answer of several."""
    return scoring.score_constants(scores.manifest.request["metric"], read_generations(scores))


def _build_columns(rows: Sequence[GenerationRow], row_scores: Columns) -> ArmColumns:
    return scoring.build_task_columns(rows, row_scores) if row_scores else scoring.build_format_columns(rows)


def _get_stored_type(metric: str) -> pa.DataType:
    return pa.list_(pa.int64()) if metric in CORPUS_METRICS else pa.float64()


def _make_signature_field(metric: str, bleu_tokenizer: str | None) -> Mapping[str, str]:
    return {"signature": get_signature(metric, bleu_tokenizer or DEFAULT_TOKENIZER)} if metric in CORPUS_METRICS else {}


def _read_json(scores: Artifact) -> dict[str, dict[str, Any]]:
    return json.loads(scores.fetch(_SCORES).read_text())
