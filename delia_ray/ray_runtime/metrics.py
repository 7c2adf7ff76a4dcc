"""A run's own metrics, on the Prometheus endpoint that Ray has on every node. Imports Ray only where it runs already."""

import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

from delia_ray.core.records import count_reasons

_TAGS = ("run", "stage", "arm")


class Metric(NamedTuple):
    """What a metric is, to Prometheus and to people."""

    kind: Literal["counter", "gauge"]
    description: str
    tags: tuple[str, ...] = _TAGS


METRICS = {
    "delia_ray_stage": Metric("gauge", "1 while the stage runs, 0 when it has ended."),
    "delia_ray_rows": Metric("counter", "Finished rows of stages that generate, score or probe."),
    "delia_ray_tokens": Metric("counter", "Generated tokens; in fine-tuning, tokens trained on."),
    "delia_ray_rejects": Metric("counter", "Rejected queries, answers and diverse rows.", (*_TAGS, "reason")),
    "delia_ray_train_step": Metric("gauge", "Finished optimizer steps."),
    "delia_ray_train_loss": Metric("gauge", "Loss of the last step."),
    "delia_ray_train_tokens_per_s": Metric("gauge", "Tokens a second of the last step, all workers together."),
    "delia_ray_mfu": Metric("gauge", "Model FLOPs utilization of the last step, between 0 and 1."),
}
"""Name -> metric. Few runs, stages, arms and reasons: each combination is a time series."""


def exported_name(name: str) -> str:
    """Return the name of a metric on the endpoint: Ray puts its own before it, and Prometheus ``_total`` behind a counter's."""
    return f"ray_{name}_total" if METRICS[name].kind == "counter" else f"ray_{name}"


@dataclass(frozen=True)
class Labels:
    """What a number belongs to."""

    run: str = ""
    stage: str = ""
    """As on the terminal, without the arm."""
    arm: str = ""


UNLABELED = Labels()
_REFRESH_SECONDS = 5.0
_gauges: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {}
"""Newest values of this process: name and tags -> value."""
_current: ContextVar[Labels] = ContextVar("labels", default=UNLABELED)


def current_labels() -> Labels:
    """Return the labels of the stage that this process is in."""
    return _current.get()


@contextmanager
def in_stage(labels: Labels) -> Generator[None]:
    """Be in a stage while the block runs. Where Ray does not run yet, ``report_stage`` tells of it later."""
    token = _current.set(labels)
    report_stage()
    try:
        yield
    finally:
        record("delia_ray_stage", 0, labels)
        _current.reset(token)


def report_stage() -> None:
    """Tell the endpoint the stage that this process is in, if it is in one."""
    if (labels := current_labels()).stage:
        record("delia_ray_stage", 1, labels)


def record(name: str, value: float | None, labels: Labels, **tags: str) -> None:
    """Add ``value`` to a counter, or set a gauge to it. Does nothing where Ray does not run, or where there is no value."""
    if "ray" not in sys.modules or value is None:
        return
    import ray  # noqa: PLC0415  it is imported already

    if not ray.is_initialized():
        return
    values = {"run": labels.run, "stage": labels.stage, "arm": labels.arm, **tags}
    if METRICS[name].kind == "gauge":
        _gauges[name, tuple(values.items())] = value
        _open_metric(name).set(value, tags=values)
        _start_refreshing()
    elif value > 0:
        _open_metric(name).inc(value, tags=values)


def record_rejects(rejects: Path) -> None:
    """Add the rejects of a folder of this stage to the counter, by reason."""
    for reason, count in count_reasons(rejects).items():
        record("delia_ray_rejects", count, current_labels(), reason=reason)


@lru_cache
def _start_refreshing() -> None:
    """Set the gauges of this process again and again: Ray drops one that is not set for two of its reports, twenty seconds."""
    threading.Thread(target=_refresh, daemon=True).start()


def _refresh() -> None:
    import ray  # noqa: PLC0415  it is imported already

    while True:
        time.sleep(_REFRESH_SECONDS)
        for (name, tags), value in list(_gauges.items()) if ray.is_initialized() else ():
            _open_metric(name).set(value, tags=dict(tags))


@lru_cache
def _open_metric(name: str) -> Any:
    from ray.util.metrics import Counter, Gauge  # noqa: PLC0415  as above

    definition = METRICS[name]
    kind = Counter if definition.kind == "counter" else Gauge
    return kind(name, definition.description, definition.tags)
