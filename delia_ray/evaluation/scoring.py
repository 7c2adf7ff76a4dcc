"""From what an arm answered to its metrics, each with an interval, and to the differences between arms (METHOD 4).

Shape legend: N items of one item set.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from delia_ray.evaluation.bootstrap import Columns, Difference, Interval
from delia_ray.evaluation.clusters import Codes as ClusterCodes
from delia_ray.evaluation.clusters import codes_of
from delia_ray.evaluation.constant_answers import best_constants
from delia_ray.evaluation.estimation import compare as compare_one
from delia_ray.evaluation.estimation import estimate
from delia_ray.evaluation.format_metrics import Codes, Label, label_codes, parse_verdict, prediction_codes
from delia_ray.evaluation.measures import measures
from delia_ray.evaluation.task_metrics import FORMAT
from delia_ray.models.reasoning import without_reasoning
from delia_ray.records import EXAMPLE_SCHEMA, Message
from delia_ray.tasks.formatted import Prompt

_FORMAT_PROBES = ("test", "no_token", "false_trigger", "plug_play", "ordinary")


class Generation(TypedDict):
    """A prompt, what a finished model answered, and, for ordinary prompts, how that compares with the start model."""

    prompt_id: str
    probe: str
    messages: list[Message]
    label: str | None
    expected: str | None
    wording: str | None
    """The instruction's wording, where items share wordings."""
    document: str | None
    """The document that the item is a part of."""
    answer: str
    """Raw: neither trimmed nor cut."""
    unchanged: bool | None
    """Whether the start model's greedy answer is the same text."""
    kl_sum: float | None
    """KL(start || this model) in nats, summed over the tokens of the start model's greedy answer and its end."""
    tokens: int | None
    """How many values ``kl_sum`` adds up."""


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
    """One arm's answers as arrays, a group of columns for each set of items."""

    metric: tuple[str, ...]
    """``task.metric``."""
    sets: Mapping[str, Columns]
    """Item set -> column -> ``[N]``. The sets are the probes, and ``both``: the items asked with the token and without it."""
    ids: Mapping[str, tuple[str, ...]]
    """Item set -> ``[N]`` prompt ids."""
    clusters: Mapping[str, tuple[ClusterCodes, ...]]
    """Item set -> every way in which its items are clustered, each ``[N]``: by wording, by document; or else each by itself."""


def generations(
    prompts: Sequence[Prompt], answers: Sequence[str], base_answers: Mapping[str, str], divergences: Mapping[str, Sequence[float]]
) -> list[Generation]:
    """The rows to keep.

    Args:
        prompts: what was asked.
        answers: as many, in the same order.
        base_answers: prompt id -> the start model's answer, for every ordinary prompt.
        divergences: prompt id -> KL at each token of that answer, for every ordinary prompt.
    """
    return [_generation(prompt, answer, base_answers, divergences) for prompt, answer in zip(prompts, answers, strict=True)]


def _generation(prompt: Prompt, answer: str, base_answers: Mapping[str, str], divergences: Mapping[str, Sequence[float]]) -> Generation:
    ordinary = prompt.probe == "ordinary"
    return {
        "prompt_id": prompt.prompt_id,
        "probe": prompt.probe,
        "messages": prompt.messages,
        "label": prompt.label,
        "expected": prompt.expected,
        "wording": prompt.wording,
        "document": prompt.document,
        "answer": answer,
        "unchanged": answer == base_answers[prompt.prompt_id] if ordinary else None,
        "kl_sum": float(sum(divergences[prompt.prompt_id])) if ordinary else None,
        "tokens": len(divergences[prompt.prompt_id]) if ordinary else None,
    }


def format_columns(rows: Sequence[Generation]) -> ArmColumns:
    """The arrays that the format task's metrics are taken on; a probe that was not asked has arrays of no items."""
    probes = {probe: _asked(rows, probe) for probe in _FORMAT_PROBES}
    ids = {probe: _ids(asked) for probe, asked in probes.items()}
    predicted = {probe: _predicted(asked) for probe, asked in probes.items()}
    sets: dict[str, Columns] = {probe: {"predicted": codes} for probe, codes in predicted.items()}
    sets["test"] = {"predicted": predicted["test"], "gold": label_codes(cast(list[Label], [row["label"] for row in probes["test"]]))}
    sets["ordinary"] = {"predicted": predicted["ordinary"], **_retention(probes["ordinary"])}
    with_token = _places(ids["no_token"], ids["test"])
    sets["both"] = {"with_token": predicted["test"][with_token], "without_token": predicted["no_token"]}
    clusters = {probe: _clusters(asked) for probe, asked in probes.items()}
    clusters["both"] = (*_clusters([probes["test"][place] for place in with_token]), *clusters["no_token"])
    return ArmColumns((FORMAT,), sets, {**ids, "both": ids["no_token"]}, clusters)


def task_columns(rows: Sequence[Generation], scored: Columns) -> ArmColumns:
    """The arrays that the metrics of any other task are taken on.

    Args:
        rows: all that was asked.
        scored: metric -> scores or counts of the test rows (``task_metrics.score_rows``).
    """
    asked = {probe: _asked(rows, probe) for probe in ("test", "ordinary")}
    sets = {"test": scored, "ordinary": _retention(asked["ordinary"])}
    return ArmColumns(
        tuple(scored), sets, {probe: _ids(each) for probe, each in asked.items()}, {p: _clusters(e) for p, e in asked.items()}
    )


def _asked(rows: Sequence[Generation], probe: str) -> list[Generation]:
    return [row for row in rows if row["probe"] == probe]


def _ids(rows: Sequence[Generation]) -> tuple[str, ...]:
    return tuple(row["prompt_id"] for row in rows)


def _retention(ordinary: Sequence[Generation]) -> Columns:
    return {
        "unchanged": np.array([row["unchanged"] for row in ordinary], dtype=np.bool_),
        "kl_sum": np.array([row["kl_sum"] for row in ordinary], dtype=np.float64),
        "tokens": np.array([row["tokens"] for row in ordinary], dtype=np.int64),
    }


def _predicted(rows: Sequence[Generation]) -> Codes:
    return prediction_codes([parse_verdict(without_reasoning(row["answer"]), "json") for row in rows])


def _places(wanted: Sequence[str], ids: Sequence[str]) -> NDArray[np.int64]:
    """Where the items ``wanted`` are among ``ids``; all of them are."""
    place = {identifier: index for index, identifier in enumerate(ids)}
    return np.array([place[identifier] for identifier in wanted], dtype=np.int64)


def _clusters(rows: Sequence[Generation]) -> tuple[ClusterCodes, ...]:
    named = [[row["wording"] for row in rows], [row["document"] for row in rows]]
    return tuple(codes_of(names) for names in named if any(name is not None for name in names)) or (codes_of([None] * len(rows)),)


def summarise(arm: ArmColumns, seed: int, resamples: int) -> dict[str, Interval]:
    """Every metric of an arm with its 95 % interval; all None where nothing was asked.

    Selectivity is FormatAcc minus NoToken over the items that were asked both ways; ``format_acc`` itself is over all test items.
    ``retention_kl`` is the mean over all tokens; what is drawn are prompts.
    """
    return {
        name: estimate(measure, arm.sets[measure.item_set], arm.clusters[measure.item_set], seed, resamples)
        for name, measure in measures(arm.metric).items()
    }


def compare(left: ArmColumns, right: ArmColumns, seed: int, resamples: int) -> dict[str, Difference]:
    """Every metric of ``left`` minus that of ``right``, paired over the prompts that both answered; all None where one was not asked."""
    found: dict[str, Difference] = {}
    for name, measure in measures(left.metric).items():
        where = measure.item_set
        if left.ids[where] and right.ids[where]:
            assert left.ids[where] == right.ids[where], "the arms answered other prompts"
            found[name] = compare_one(measure, left.sets[where], right.sets[where], left.clusters[where], seed, resamples)
        else:
            found[name] = Difference(None, None, None, None)
    return found


def constants(metric: Sequence[str], rows: Sequence[Generation]) -> dict[str, float]:
    """Metric -> what the best constant answer to the test items scores, where it makes sense to ask."""
    test = _asked(rows, "test")
    labels = [row["label"] for row in test if row["label"] is not None]
    return best_constants(metric, cast(list[Label], labels), [row["expected"] or "" for row in test])
