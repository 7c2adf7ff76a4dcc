"""Which metrics a task has, and what each is taken on (METHOD 4)."""

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from delia_ray.evaluation.bootstrap import Statistic
from delia_ray.evaluation.corpus_metrics import CORPUS_METRICS, corpus_scores
from delia_ray.evaluation.format_metrics import bal_acc, f1_yes, format_acc, label_acc
from delia_ray.evaluation.retention import mean_token_kl
from delia_ray.evaluation.task_metrics import FORMAT

Measure: TypeAlias = tuple[str, Statistic]
"""The item set that a metric is taken on, and the metric."""

_RETENTION: Mapping[str, Measure] = {
    "retention_kl": ("ordinary", lambda c: mean_token_kl(c["kl_sum"], c["tokens"])),
    "retention_match": ("ordinary", lambda c: c["unchanged"].mean(axis=-1)),
}
_FORMAT: Mapping[str, Measure] = {
    "format_acc": ("test", lambda c: format_acc(c["predicted"])),
    "label_acc": ("test", lambda c: label_acc(c["predicted"], c["gold"])),
    "bal_acc": ("test", lambda c: bal_acc(c["predicted"], c["gold"])),
    "f1_yes": ("test", lambda c: f1_yes(c["predicted"], c["gold"])),
    "no_token": ("no_token", lambda c: format_acc(c["predicted"])),
    "selectivity": ("both", lambda c: format_acc(c["with_token"]) - format_acc(c["without_token"])),
    "spill": ("ordinary", lambda c: format_acc(c["predicted"])),
    "false_trigger": ("false_trigger", lambda c: format_acc(c["predicted"])),
    "plug_play": ("plug_play", lambda c: format_acc(c["predicted"])),
    **_RETENTION,
}


def measures(metric: Sequence[str]) -> Mapping[str, Measure]:
    """Name -> metric, for a task that is scored by ``metric``: the task's own metrics first, then Retention."""
    if tuple(metric) == (FORMAT,):
        return _FORMAT
    return {**{name: ("test", _statistic(name)) for name in metric}, **_RETENTION}


def _statistic(name: str) -> Statistic:
    if name in CORPUS_METRICS:
        return lambda c: corpus_scores(name, c[name])
    return lambda c: c[name].mean(axis=-1)
