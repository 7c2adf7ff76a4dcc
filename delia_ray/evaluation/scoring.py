"""Metrics of one arm with their confidence intervals, and paired differences between arms, from stored answers (docs/method.md, Metrics).

Shape legend: N items of one item set.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from delia_ray.core.records import EXAMPLE_SCHEMA, Message
from delia_ray.evaluation.metrics.constant_answers import score_constant_answers
from delia_ray.evaluation.metrics.definitions import define_metrics
from delia_ray.evaluation.metrics.format_metrics import Label, LabelCodes, encode_labels, encode_predictions, parse_formatted_output
from delia_ray.evaluation.metrics.task_metrics import FORMAT
from delia_ray.evaluation.statistics.clusters import ClusterCodes, assign_clusters, assign_singletons
from delia_ray.evaluation.statistics.estimation import estimate_difference, estimate_interval
from delia_ray.evaluation.statistics.intervals import Columns, Interval, PairedDifference
from delia_ray.models.reasoning import strip_reasoning
from delia_ray.tasks.format_task import Prompt

_FORMAT_PROBES = ("test", "no_token", "false_trigger", "plug_play", "ordinary")


class GenerationRow(TypedDict):
    """A prompt, the answer of a finished model, and, for everyday prompts, how the model differs from the base model."""

    prompt_id: str
    probe: str
    messages: list[Message]
    label: str | None
    expected: str | None
    wording: str | None
    """The wording of the instruction, if items share wordings."""
    document: str | None
    """The document that the item is a part of."""
    answer: str
    """The raw answer, neither stripped nor truncated."""
    unchanged: bool | None
    """Whether the answer equals the base model's greedy answer."""
    kl_sum: float | None
    """KL(base || this model) in nats, summed over the tokens of the base model's greedy answer and the position after it."""
    tokens: int | None
    """Number of values in ``kl_sum``."""


GENERATION_SCHEMA = pa.schema(
    [
        pa.field("prompt_id", pa.string(), nullable=False),
        pa.field("probe", pa.string(), nullable=False),
        EXAMPLE_SCHEMA.field("messages"),
        pa.field("label", pa.string()),
        pa.field("expected", pa.string()),
        pa.field("wording", pa.string()),
        pa.field("document", pa.string()),
        pa.field("answer", pa.string(), nullable=False),
        pa.field("unchanged", pa.bool_()),
        pa.field("kl_sum", pa.float64()),
        pa.field("tokens", pa.int64()),
    ]
)


@dataclass(frozen=True)
class ArmColumns:
    """One arm's answers as arrays: columns for each item set.

    The item sets are the probes, and ``both``: the items asked with the token as well as without it.
    """

    metrics: tuple[str, ...]
    """``task.metric``."""
    item_sets: Mapping[str, Columns]
    """Item set -> column -> ``[N]``."""
    prompt_ids: Mapping[str, tuple[str, ...]]
    """Item set -> ``[N]`` prompt ids."""
    groupings: Mapping[str, tuple[ClusterCodes, ...]]
    """Item set -> every way in which its items are clustered, each ``[N]``: by wording and by document; without either, one item each."""


def build_generations(
    prompts: Sequence[Prompt], answers: Sequence[str], base_answers: Mapping[str, str], divergences: Mapping[str, Sequence[float]]
) -> list[GenerationRow]:
    """Build the rows of ``generations.parquet``.

    Args:
        prompts: the prompts.
        answers: one answer for each prompt, in the same order.
        base_answers: prompt id -> the base model's answer, for each everyday prompt.
        divergences: prompt id -> KL at each token of that answer, for each everyday prompt.
    """
    return [_build_generation(prompt, answer, base_answers, divergences) for prompt, answer in zip(prompts, answers, strict=True)]


def _build_generation(
    prompt: Prompt, answer: str, base_answers: Mapping[str, str], divergences: Mapping[str, Sequence[float]]
) -> GenerationRow:
    is_ordinary = prompt.probe == "ordinary"
    return {
        "prompt_id": prompt.prompt_id,
        "probe": prompt.probe,
        "messages": prompt.messages,
        "label": prompt.label,
        "expected": prompt.expected,
        "wording": prompt.wording,
        "document": prompt.document,
        "answer": answer,
        "unchanged": answer == base_answers[prompt.prompt_id] if is_ordinary else None,
        "kl_sum": float(sum(divergences[prompt.prompt_id])) if is_ordinary else None,
        "tokens": len(divergences[prompt.prompt_id]) if is_ordinary else None,
    }


def build_format_columns(rows: Sequence[GenerationRow]) -> ArmColumns:
    """Build the columns for the format task's metrics; a probe without prompts has columns of length 0."""
    probes = {probe: _select_probe(rows, probe) for probe in _FORMAT_PROBES}
    ids = {probe: _get_prompt_ids(probe_rows) for probe, probe_rows in probes.items()}
    predicted = {probe: _parse_predictions(probe_rows) for probe, probe_rows in probes.items()}
    item_sets: dict[str, Columns] = {probe: {"predicted": codes} for probe, codes in predicted.items()}
    item_sets["test"] = {"predicted": predicted["test"], "gold": encode_labels(cast(list[Label], [row["label"] for row in probes["test"]]))}
    item_sets["ordinary"] = {"predicted": predicted["ordinary"], **_build_retention_columns(probes["ordinary"])}
    with_token = _find_positions(ids["no_token"], ids["test"])
    item_sets["both"] = {"with_token": predicted["test"][with_token], "without_token": predicted["no_token"]}
    groupings = {probe: _group_rows(probe_rows) for probe, probe_rows in probes.items()}
    groupings["both"] = (*_group_rows([probes["test"][position] for position in with_token]), *groupings["no_token"])
    return ArmColumns((FORMAT,), item_sets, {**ids, "both": ids["no_token"]}, groupings)


def build_task_columns(rows: Sequence[GenerationRow], row_scores: Columns) -> ArmColumns:
    """Build the columns for the metrics of any other task.

    Args:
        rows: the answers to all prompts.
        row_scores: metric -> scores or sufficient statistics of the test rows (``task_metrics.score_rows``).
    """
    probes = {probe: _select_probe(rows, probe) for probe in ("test", "ordinary")}
    return ArmColumns(
        tuple(row_scores),
        {"test": row_scores, "ordinary": _build_retention_columns(probes["ordinary"])},
        {probe: _get_prompt_ids(probe_rows) for probe, probe_rows in probes.items()},
        {probe: _group_rows(probe_rows) for probe, probe_rows in probes.items()},
    )


def _select_probe(rows: Sequence[GenerationRow], probe: str) -> list[GenerationRow]:
    return [row for row in rows if row["probe"] == probe]


def _get_prompt_ids(rows: Sequence[GenerationRow]) -> tuple[str, ...]:
    return tuple(row["prompt_id"] for row in rows)


def _build_retention_columns(ordinary: Sequence[GenerationRow]) -> Columns:
    return {
        "unchanged": np.array([row["unchanged"] for row in ordinary], dtype=np.bool_),
        "kl_sum": np.array([row["kl_sum"] for row in ordinary], dtype=np.float64),
        "tokens": np.array([row["tokens"] for row in ordinary], dtype=np.int64),
    }


def _parse_predictions(rows: Sequence[GenerationRow]) -> LabelCodes:
    return encode_predictions([parse_formatted_output(strip_reasoning(row["answer"]), "json") for row in rows])


def _find_positions(selected_ids: Sequence[str], ids: Sequence[str]) -> NDArray[np.int64]:
    """Return the positions of ``selected_ids`` in ``ids``, which contains all of them."""
    positions = {prompt_id: index for index, prompt_id in enumerate(ids)}
    return np.array([positions[prompt_id] for prompt_id in selected_ids], dtype=np.int64)


def _group_rows(rows: Sequence[GenerationRow]) -> tuple[ClusterCodes, ...]:
    names_by_grouping = [[row["wording"] for row in rows], [row["document"] for row in rows]]
    shared = tuple(assign_clusters(names) for names in names_by_grouping if any(name is not None for name in names))
    return shared or (assign_singletons(len(rows)),)


def estimate_metrics(arm: ArmColumns, seed: int, resamples: int) -> dict[str, Interval]:
    """Estimate every metric of an arm with its 95 % interval; all None for an item set without items.

    Selectivity is FormatAcc minus NoToken over the items that were asked both ways; ``format_acc`` itself is over all test items.
    ``retention_kl`` is the mean over all tokens, and its bootstrap resamples prompts.
    """
    return {
        name: estimate_interval(metric, arm.item_sets[metric.item_set], arm.groupings[metric.item_set], seed, resamples)
        for name, metric in define_metrics(arm.metrics).items()
    }


def compare_metrics(left: ArmColumns, right: ArmColumns, seed: int, resamples: int) -> dict[str, PairedDifference]:
    """Estimate every metric of ``left`` minus that of ``right``, paired by prompt; all None if an arm has no items for the metric."""
    differences: dict[str, PairedDifference] = {}
    for name, metric in define_metrics(left.metrics).items():
        item_set = metric.item_set
        if left.prompt_ids[item_set] and right.prompt_ids[item_set]:
            assert left.prompt_ids[item_set] == right.prompt_ids[item_set], "the arms answered other prompts"
            differences[name] = estimate_difference(
                metric, left.item_sets[item_set], right.item_sets[item_set], left.groupings[item_set], seed, resamples
            )
        else:
            differences[name] = PairedDifference(None, None, None, None)
    return differences


def score_constants(metrics: Sequence[str], rows: Sequence[GenerationRow]) -> dict[str, float]:
    """Metric -> score of the best constant answer to the test items, for the metrics that ask for one answer of several."""
    test_rows = _select_probe(rows, "test")
    labels = [row["label"] for row in test_rows if row["label"] is not None]
    return score_constant_answers(metrics, cast(list[Label], labels), [row["expected"] or "" for row in test_rows])
