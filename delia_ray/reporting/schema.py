"""The record behind a run's page: everything it prints, and nothing else, is in ``report.json``."""

from dataclasses import asdict
from datetime import datetime
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, model_validator

from delia_ray.evaluation.bootstrap import Interval
from delia_ray.records import Record
from delia_ray.synthesis.diversity import Diversity

BUILTIN_METRICS = (
    "format_acc",
    "label_acc",
    "bal_acc",
    "f1_yes",
    "no_token",
    "selectivity",
    "spill",
    "false_trigger",
    "plug_play",
    "retention_kl",
    "retention_match",
)
FIRST_ARMS = ("base", "it", "delia")


Verdict = Literal["better", "worse", "equivalent", "cannot be told", "higher", "lower", "not measured"]
"""What a comparison says of its left arm; ``higher`` and ``lower`` of a metric of which nobody knows what is good."""


class Estimate(Record):
    """A metric of one arm with its 95 % interval."""

    value: float | None
    """null when nothing was asked (``n`` is 0)."""
    low: float | None
    """null, as is ``high``, where no honest interval can be given; ``note`` says why."""
    high: float | None
    n: int = Field(ge=0)
    """Prompts it was measured on."""
    clusters: int | None = None
    """Wordings or documents that they share; ``n`` where each stands alone."""
    effective_n: float | None = None
    """As many independent prompts would say as much."""
    icc: float | None = None
    """Intraclass correlation; null where no two prompts share a cluster, or all are alike."""
    note: str | None = None

    @classmethod
    def of(cls, interval: Interval) -> "Estimate":
        """The same, as it is printed."""
        return cls(**asdict(interval))


class Difference(Record):
    """A metric of one arm minus that of another, on the same prompts, with its 95 % interval."""

    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    """Two-sided p of the hypothesis that the difference is 0."""
    p_holm: float | None = None
    """``p`` after Holm's correction over the arms that are compared with the same one, for this metric."""
    gain_percent: float | None = None
    """100 (left - right) / right; null where right is not above 0, or not above the best constant answer."""
    gain_low: float | None = None
    gain_high: float | None = None
    clusters: int | None = None
    effective_n: float | None = None
    icc: float | None = None
    """Of what each prompt adds to the difference; these three as in an ``Estimate``."""
    mde: float | None = None
    """Minimum detectable effect: the true difference that would be found four times out of five (two-sided, 5 %)."""
    margin: float | None = None
    """``score.margins``: a difference below means nothing."""
    note: str | None = None
    """Why there is no interval, where there is none."""
    verdict: Verdict | None = None


class RunFacts(Record):
    """What was run."""

    name: str
    model: str
    token: str | None
    task: str
    """``task.kind``."""
    n_task: int
    """Task rows to learn from (N)."""
    rho: float
    """Diverse rows for each task row, as it came out, in arm ``delia``."""
    steps: int
    """Optimiser steps of every arm."""
    learning_rates: dict[str, float]
    """Arm -> peak learning rate."""
    precision: str | None = None
    """Of every model that was trained, stored and served."""
    chat_template: dict[str, str] = Field(default={})
    """What the model's chat template can do, in words."""
    created_at: datetime
    command: list[str] = Field(default=[])
    """argv of the run."""
    git_commit: str | None = None
    config: dict[str, Any] = Field(default={})
    """The resolved YAML of the run."""


class CurvePoint(Record):
    """One optimiser step. A loss is null where the step held no row of its group."""

    step: int
    task_loss: float | None
    diverse_loss: float | None
    learning_rate: float
    grad_norm: float | None
    tokens_per_second: float | None


class Answers(Record):
    """One test prompt and what each arm answered."""

    set: str
    """Which probe the prompt belongs to."""
    prompt: str
    expected: str | None
    answers: dict[str, str]
    """Arm -> text."""


class StageCost(BaseModel):
    """What a stage took. Further numbers of a stage (tokens, steps) are kept under their own names."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)
    __pydantic_extra__: dict[str, int | float | str | None]  # pyright: ignore[reportIncompatibleVariableOverride]

    seconds: float
    rows: int | None = None


class Link(Record):
    """An artifact in the chain."""

    stage: str
    fingerprint: str
    inputs: dict[str, str]
    """Role -> fingerprint."""


class Pair(NamedTuple):
    """Two arms that answered the same prompts; differences are ``left`` minus ``right``."""

    left: str
    right: str
    differences: dict[str, Difference]


class Report(Record):
    """``report.json``."""

    run: RunFacts
    verdict: list[str] = Field(default=[])
    """Plain sentences, from ``verdict.judged``."""
    arms: dict[str, dict[str, Estimate]] = Field(min_length=1)
    """Arm -> metric -> estimate."""
    paired: dict[str, dict[str, Difference]] = Field(default={})
    """``LEFT-RIGHT`` -> metric -> difference; both are names of ``arms``."""
    constants: dict[str, float] = Field(default={})
    """Metric -> what the best constant answer scores: always the same label, or the commonest target."""
    signatures: dict[str, str] = Field(default={})
    """Metric -> what the library that computed it wants to be quoted with it."""
    curves: dict[str, list[CurvePoint]] = Field(default={})
    diversity: Diversity | None = None
    """The pool of diverse rows; null where no arm took any."""
    examples: list[Answers] = Field(default=[])
    stages: dict[str, StageCost] = Field(default={})
    lineage: dict[str, Link] = Field(default={})
    """Path below the run's folder -> the artifact there."""

    @model_validator(mode="after")
    def _pairs_name_arms(self) -> "Report":
        for key in self.paired:
            if self._split(key) is None:
                raise ValueError(f"paired.{key}: not LEFT-RIGHT of two arms among {', '.join(self.arms)}")
        return self

    def arm_names(self) -> list[str]:
        """base, it, delia, then the others in the record's order."""
        return [arm for arm in FIRST_ARMS if arm in self.arms] + [arm for arm in self.arms if arm not in FIRST_ARMS]

    def metric_names(self) -> list[str]:
        """The metrics of a user's own task, then the built-in ones in their order."""
        found = dict.fromkeys(metric for arm in self.arm_names() for metric in self.arms[arm])
        return [metric for metric in found if metric not in BUILTIN_METRICS] + [metric for metric in BUILTIN_METRICS if metric in found]

    def pairs(self) -> list[Pair]:
        """``paired``, with ``delia-it`` first."""
        keys = sorted(self.paired, key=lambda key: key != "delia-it")
        return [Pair(*names, self.paired[key]) for key in keys if (names := self._split(key))]

    def value(self, arm: str, metric: str) -> float | None:
        """The estimate's value; None when the arm or the metric is not there or nothing was asked."""
        estimate = self.arms.get(arm, {}).get(metric)
        return None if estimate is None else estimate.value

    def _split(self, key: str) -> tuple[str, str] | None:
        """The two arms a key names; arms may have hyphens themselves."""
        return next(((a, b) for a in self.arms for b in self.arms if key == f"{a}-{b}"), None)
