"""The artifact ``scores``: what is in it, and how to read it.

``generations.parquet`` has every prompt and answer, ``row_scores.parquet`` each test row's score by each of the task's own metrics (for
BLEU and chrF++ the counts that add up to the corpus's), and ``scores.json`` every metric with its interval, and with the signature of
the library that computed it where it has one.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from dataclasses import fields as fields_of
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from delia_ray.artifacts import Artifact, Counts
from delia_ray.errors import UserError
from delia_ray.evaluation import scoring
from delia_ray.evaluation.bootstrap import Columns, Difference, Interval
from delia_ray.evaluation.config import ScoreConfig
from delia_ray.evaluation.corpus_metrics import CORPUS_METRICS, DEFAULT_TOKENS, signature
from delia_ray.evaluation.measures import measures
from delia_ray.evaluation.scoring import GENERATION_SCHEMA, ArmColumns, Generation
from delia_ray.evaluation.task_metrics import FORMAT

SCORES_KIND = "scores/3"
_GENERATIONS = "generations.parquet"
_ROW_SCORES = "row_scores.parquet"
_SCORES = "scores.json"
_INTERVAL = tuple(field.name for field in fields_of(Interval))


def write_scores(
    rows: Sequence[Generation], scored: Columns, config: ScoreConfig, data: Path, bleu_tokens: str | None = DEFAULT_TOKENS
) -> Counts:
    """Measure, and fill an artifact's ``data``; how many rows it then has.

    Args:
        rows: all prompts and answers.
        scored: metric -> scores or counts of the test rows (``task_metrics.score_rows``); empty for the format task.
        bleu_tokens: BLEU's tokenizer, for its signature.
    """
    pq.write_table(pa.Table.from_pylist(list(rows), schema=GENERATION_SCHEMA), data / _GENERATIONS)
    arm = _columns(rows, scored)
    if scored:
        own = {name: pa.array(column.tolist(), _stored_type(name)) for name, column in scored.items()}
        pq.write_table(pa.table({"prompt_id": pa.array(arm.ids["test"], pa.string()), **own}), data / _ROW_SCORES)
    intervals = scoring.summarise(arm, config.seed, config.resamples)
    scores = {name: {**asdict(interval), **_signed(name, bleu_tokens)} for name, interval in intervals.items()}
    (data / _SCORES).write_text(json.dumps(scores, indent=1, allow_nan=False) + "\n")
    return {"rows": len(rows)}


def read_generations(scores: Artifact) -> list[Generation]:
    """Every prompt and answer, in the order asked."""
    return pq.read_table(scores.data / _GENERATIONS, schema=GENERATION_SCHEMA).to_pylist()


def read_scores(scores: Artifact) -> dict[str, Interval]:
    """Metric -> value and interval."""
    return {name: Interval(**{key: fields[key] for key in _INTERVAL}) for name, fields in _read(scores).items()}


def read_signatures(scores: Artifact) -> dict[str, str]:
    """Metric -> signature, for those that have one."""
    return {name: fields["signature"] for name, fields in _read(scores).items() if "signature" in fields}


def read_columns(scores: Artifact) -> ArmColumns:
    """The arrays behind the metrics, for a comparison of arms."""
    metric: list[str] = scores.manifest.request["metric"]
    scored: dict[str, np.ndarray] = {}
    if metric != [FORMAT]:
        table = pq.read_table(scores.data / _ROW_SCORES)
        scored = {name: np.array(table[name].to_pylist(), np.int64 if name in CORPUS_METRICS else np.float64) for name in metric}
    return _columns(read_generations(scores), scored)


def compare_scores(left: Artifact, right: Artifact, config: ScoreConfig) -> dict[str, Difference]:
    """Every metric of ``left`` minus that of ``right``, over the prompts that both were asked.

    There is no relative gain over a score that the best constant answer reaches as well.

    Raises:
        UserError: the two were not asked the same prompts.
    """
    lefts, rights = read_columns(left), read_columns(right)
    others = [probe for probe, ids in lefts.ids.items() if ids and rights.ids[probe] and ids != rights.ids[probe]]
    if lefts.metric != rights.metric or others:
        raise UserError(f"{left.path} and {right.path} hold answers to other prompts; score both with the same task and `score` settings")
    counted = [arm.manifest.request.get("bleu_tokens") for arm in (left, right)]
    if counted[0] != counted[1]:
        both = " and ".join(map(repr, counted))
        raise UserError(f"{left.path} and {right.path} count BLEU by {both}; score both again with one task.bleu_tokens")
    floors, theirs, known = constants(right), read_scores(right), measures(lefts.metric)
    found: dict[str, Difference] = {}
    for name, difference in scoring.compare(lefts, rights, config.seed, config.resamples).items():
        margin = getattr(config.margins, known[name].scale)
        found[name] = replace(difference, margin=None if difference.difference is None else margin)
        value = theirs[name].value
        if name in floors and value is not None and value <= floors[name]:
            found[name] = replace(found[name], gain_percent=None, gain_low=None, gain_high=None)
    return found


def constants(scores: Artifact) -> dict[str, float]:
    """Metric -> what the best constant answer to the test items scores; empty for a task where that makes no sense."""
    return scoring.constants(scores.manifest.request["metric"], read_generations(scores))


def _columns(rows: Sequence[Generation], scored: Columns) -> ArmColumns:
    return scoring.task_columns(rows, scored) if scored else scoring.format_columns(rows)


def _stored_type(metric: str) -> pa.DataType:
    return pa.list_(pa.int64()) if metric in CORPUS_METRICS else pa.float64()


def _signed(metric: str, bleu_tokens: str | None) -> Mapping[str, str]:
    return {"signature": signature(metric, bleu_tokens or DEFAULT_TOKENS)} if metric in CORPUS_METRICS else {}


def _read(scores: Artifact) -> dict[str, dict[str, Any]]:
    return json.loads((scores.data / _SCORES).read_text())
