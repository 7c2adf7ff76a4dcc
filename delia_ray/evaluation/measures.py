"""Which metrics a task has, and what each is taken on (METHOD 4)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from delia_ray.evaluation.bootstrap import Columns
from delia_ray.evaluation.corpus_metrics import CORPUS_METRICS, corpus_scores
from delia_ray.evaluation.format_metrics import INVALID
from delia_ray.evaluation.proportions import F1, BalancedRate, Proportion, Rate, RateDifference
from delia_ray.evaluation.sums import ANY, POSITIVE, SumScore
from delia_ray.evaluation.task_metrics import FORMAT

Scale: TypeAlias = Literal["rates", "scores", "points", "nats"]
"""Shares of items; scores of items from 0 to 1; 0 to 100; nats. ``score.margins`` has one for each."""


@dataclass(frozen=True)
class Measure:
    """A metric."""

    item_set: str
    """What it is taken on."""
    quantity: Proportion | SumScore
    scale: Scale = "rates"

    def of(self, *arms: Columns) -> Proportion | SumScore:
        """How to take it: scores of items that are all 0 or 1, in every one of ``arms``, are the hits of a rate."""
        if not isinstance(self.quantity, _ScoreColumn):
            return self.quantity
        name = self.quantity.name
        return Rate(lambda c: c[name] == 1) if all(np.isin(columns[name], (0.0, 1.0)).all() for columns in arms) else self.quantity


@dataclass(frozen=True)
class _ScoreColumn(SumScore):
    """The mean of a column of scores."""

    name: str


def _in_format(column: str) -> Rate:
    return Rate(lambda c: c[column] != INVALID)


TOKEN_KL = Measure(
    "ordinary",
    # A ratio of sums, so that a long answer weighs by its tokens. Arms that are compared follow the same answers: they share the tokens.
    SumScore(lambda c: np.stack([c["kl_sum"], c["tokens"]], axis=1), lambda sums: sums[:, 0] / sums[:, 1], is_linear=True, scale=POSITIVE),
    "nats",
)
"""Mean KL over all tokens of all answers, from ``kl_sum`` and ``tokens`` of each."""
_RETENTION: Mapping[str, Measure] = {
    "retention_kl": TOKEN_KL,
    "retention_match": Measure("ordinary", Rate(lambda c: c["unchanged"])),
}
_FORMAT: Mapping[str, Measure] = {
    "format_acc": Measure("test", _in_format("predicted")),
    "label_acc": Measure("test", Rate(lambda c: c["predicted"] == c["gold"])),
    "bal_acc": Measure("test", BalancedRate()),
    "f1_yes": Measure("test", F1()),
    "no_token": Measure("no_token", _in_format("predicted")),
    "selectivity": Measure("both", RateDifference(_in_format("with_token"), _in_format("without_token"))),
    "spill": Measure("ordinary", _in_format("predicted")),
    "false_trigger": Measure("false_trigger", _in_format("predicted")),
    "plug_play": Measure("plug_play", _in_format("predicted")),
    **_RETENTION,
}
_RATES = ("exact_match", "contains", "json_valid", "json_match", "json_schema", "regex")
"""Metrics of a user's task that are 0 or 1 for every row."""
_UNBOUNDED = ("comet", "bleurt")
"""Learned metrics: about 0 to 1, but nothing keeps them there."""


def measures(metric: Sequence[str]) -> Mapping[str, Measure]:
    """Name -> metric, for a task that is scored by ``metric``: the task's own metrics first, then Retention."""
    if tuple(metric) == (FORMAT,):
        return _FORMAT
    return {**{name: row_measure(name) for name in metric}, **_RETENTION}


def row_measure(name: str, best: float | None = 1.0) -> Measure:
    """A metric that the rows' column ``name`` adds up to; of scores from 0 to ``best``, None where they have no bounds."""
    if name in CORPUS_METRICS:
        corpus = SumScore(
            lambda c: c[name],
            lambda sums: corpus_scores(name, np.rint(sums[:, None]).astype(np.int64)),
            is_linear=False,
            scale=(0.0, 100.0),
        )
        return Measure("test", corpus, "points")
    return Measure(
        "test",
        _ScoreColumn(
            lambda c: np.stack([c[name], np.ones(len(c[name]))], axis=1),
            lambda sums: sums[:, 0] / sums[:, 1],
            is_linear=True,
            scale=ANY if best is None or name in _UNBOUNDED else (0.0, best),
            name=name,
        ),
        "rates" if name in _RATES else "scores",
    )
