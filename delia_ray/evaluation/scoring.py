"""From what an arm answered to its metrics, each with an interval, and to the differences between arms (METHOD 4).

Shape legend: N items of one item set, R resamples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict, cast

import numpy as np
import pyarrow as pa

from delia_ray.evaluation.bootstrap import Columns, Difference, Interval, bootstrap, paired_bootstrap
from delia_ray.evaluation.format_metrics import Codes, Label, label_codes, majority_baseline, parse_verdict, prediction_codes
from delia_ray.evaluation.measures import measures
from delia_ray.evaluation.task_metrics import FORMAT
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
        pa.field("answer", pa.string(), nullable=False),
        pa.field("unchanged", pa.bool_()),
        pa.field("kl_sum", pa.float64()),
        pa.field("tokens", pa.int64()),
    ]
)


@dataclass(frozen=True)
class ArmColumns:
    """One arm's answers as arrays, a group of columns for each set of items that is resampled together."""

    metric: tuple[str, ...]
    """``task.metric``."""
    sets: Mapping[str, Columns]
    """Item set -> column -> ``[N]``. The sets are the probes, and ``both``: the items asked with the token and without it."""
    ids: Mapping[str, tuple[str, ...]]
    """Item set -> ``[N]`` prompt ids."""


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
    sets["both"] = {"with_token": _at(ids["no_token"], ids["test"], predicted["test"]), "without_token": predicted["no_token"]}
    return ArmColumns((FORMAT,), sets, {**ids, "both": ids["no_token"]})


def task_columns(rows: Sequence[Generation], scored: Columns) -> ArmColumns:
    """The arrays that the metrics of any other task are taken on.

    Args:
        rows: all that was asked.
        scored: metric -> scores or counts of the test rows (``task_metrics.score_rows``).
    """
    test, ordinary = _asked(rows, "test"), _asked(rows, "ordinary")
    return ArmColumns(tuple(scored), {"test": scored, "ordinary": _retention(ordinary)}, {"test": _ids(test), "ordinary": _ids(ordinary)})


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
    return prediction_codes([parse_verdict(row["answer"], "json") for row in rows])


def _at(wanted: Sequence[str], ids: Sequence[str], codes: Codes) -> Codes:
    """``codes`` of the items ``wanted``, which are all among ``ids``."""
    place = {identifier: index for index, identifier in enumerate(ids)}
    return codes[np.array([place[identifier] for identifier in wanted], dtype=np.int64)]


def summarise(arm: ArmColumns, seed: int, resamples: int) -> dict[str, Interval]:
    """Every metric of an arm with its 95 % bootstrap interval; all None where nothing was asked.

    Selectivity is FormatAcc minus NoToken over the items that were asked both ways, drawn together; ``format_acc`` itself is over all
    test items. ``retention_kl`` is the mean over all tokens; what is drawn are prompts.
    """
    return {name: bootstrap(statistic, arm.sets[item_set], seed, resamples) for name, (item_set, statistic) in measures(arm.metric).items()}


def compare(left: ArmColumns, right: ArmColumns, seed: int, resamples: int) -> dict[str, Difference]:
    """Every metric of ``left`` minus that of ``right``, by paired bootstrap over the prompts that both answered."""
    assert (left.metric, left.ids) == (right.metric, right.ids), "the arms answered other prompts"
    return {
        name: paired_bootstrap(statistic, left.sets[item_set], right.sets[item_set], seed, resamples)
        for name, (item_set, statistic) in measures(left.metric).items()
    }


def majority(rows: Sequence[Generation]) -> dict[str, float]:
    """Metric -> what always giving the commoner label of the test items scores; empty where they have no labels."""
    labels = [row["label"] for row in rows if row["probe"] == "test" and row["label"] is not None]
    return majority_baseline(cast(list[Label], labels)) if labels else {}
