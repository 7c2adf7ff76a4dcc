"""Schema of ``report.json``: the scores, comparisons, curves and examples that a run's page shows."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, model_validator

from delia_ray.core.records import Record
from delia_ray.evaluation.metrics.definitions import FORMAT_METRICS
from delia_ray.evaluation.statistics.intervals import Interval, PairedDifference
from delia_ray.synthesis.diversity.measures import Diversity

BUILTIN_METRICS = tuple(FORMAT_METRICS)
FIRST_ARMS = ("base", "sft", "delia")


Verdict = Literal["better", "worse", "equivalent", "cannot be told", "higher", "lower", "not measured"]
"""Result of a comparison for its left arm; ``higher`` and ``lower`` for a metric whose better direction is not known."""


@dataclass(frozen=True)
class MetricDifference(PairedDifference):
    """A metric of one arm minus the same metric of another, on the same prompts, and what it says."""

    verdict: Verdict | None = None


class RunFacts(Record):
    """Name, model, task and training settings of the run."""

    name: str
    model: str
    token: str | None
    task: str
    """``task.kind``."""
    n_task: int
    """Task rows in the training set (N)."""
    rho: float
    """Diverse rows per task row in the mixed training set; the largest ratio of all arms."""
    steps: int
    """Optimizer steps of every arm."""
    learning_rates: dict[str, float]
    """Arm -> peak learning rate."""
    precision: str | None = None
    """Data type that every model was trained, stored and served in."""
    chat_template: dict[str, str] = Field(default={})
    """Feature of the model's chat template -> description."""
    created_at: datetime
    command: list[str] = Field(default=[])
    """Command line of the run."""
    git_commit: str | None = None
    config: dict[str, Any] = Field(default={})
    """Resolved config of the run."""


class CurvePoint(Record):
    """Losses and speed of one optimizer step. A loss is None where the step had no row of its group."""

    step: int
    task_loss: float | None
    diverse_loss: float | None
    learning_rate: float
    grad_norm: float | None
    tokens_per_second: float | None


class PromptAnswers(Record):
    """A test prompt with the answer of each arm."""

    set: str
    """Test set of the prompt: a metric name or the set's own name."""
    prompt: str
    expected: str | None
    answers: dict[str, str]
    """Arm -> text."""


class StageCost(BaseModel):
    """Time and rows of a stage. Other counts of a stage (tokens, steps) are extra fields under their own names."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)
    __pydantic_extra__: dict[str, int | float | str | None]  # pyright: ignore[reportIncompatibleVariableOverride]

    seconds: float
    rows: int | None = None


class LineageNode(Record):
    """An artifact of the run with its stage, fingerprint and inputs."""

    stage: str
    fingerprint: str
    inputs: dict[str, str]
    """Role -> fingerprint."""


class ArmPair(NamedTuple):
    """Two arms that answered the same prompts, with the difference ``left`` minus ``right`` of each metric."""

    left: str
    right: str
    differences: dict[str, MetricDifference]


class FormParity(Record):
    """How a form of an exported model answers in vLLM, compared with transformers (``training.export.parity.Parity``)."""

    reason: str | None = None
    """Why vLLM was not asked; the other fields are None then."""
    dtype: str | None = None
    prompts: int | None = None
    with_token: int | None = None
    equal: int | None = None
    ties: int | None = None
    tokens: int | None = None
    mean_difference: float | None = None
    largest_difference: float | None = None


class RunReport(Record):
    """Contents of ``report.json``."""

    run: RunFacts
    verdict: list[str] = Field(default=[])
    """Sentences that summarize the comparisons, from ``conclusions.add_conclusions``."""
    arms: dict[str, dict[str, Interval]] = Field(min_length=1)
    """Arm -> metric -> estimate."""
    paired: dict[str, dict[str, MetricDifference]] = Field(default={})
    """``LEFT-RIGHT`` -> metric -> difference; LEFT and RIGHT are keys of ``arms``."""
    constants: dict[str, float] = Field(default={})
    """Metric -> score of the best constant answer: always the same label, or the most common target."""
    signatures: dict[str, str] = Field(default={})
    """Metric -> signature of the library that computed it, to be quoted with the score."""
    curves: dict[str, list[CurvePoint]] = Field(default={})
    diversity: Diversity | None = None
    """Diversity of the pool of diverse rows; None where no arm used it."""
    examples: list[PromptAnswers] = Field(default=[])
    stages: dict[str, StageCost] = Field(default={})
    parity: dict[str, dict[str, FormParity]] = Field(default={})
    """Arm -> form of its exported model -> comparison of its answers in vLLM with those in transformers."""
    lineage: dict[str, LineageNode] = Field(default={})
    """Path of an artifact in the run's folder -> its lineage."""

    @model_validator(mode="after")
    def _check_pairs(self) -> "RunReport":
        for key in self.paired:
            if self._split_pair(key) is None:
                raise ValueError(f"paired.{key}: not LEFT-RIGHT of two arms among {', '.join(self.arms)}")
        return self

    def list_arms(self) -> list[str]:
        """List the arms: ``FIRST_ARMS``, then the others in the order of the record."""
        return [arm for arm in FIRST_ARMS if arm in self.arms] + [arm for arm in self.arms if arm not in FIRST_ARMS]

    def list_metrics(self) -> list[str]:
        """List the metrics of the user's own task, then the built-in ones in the order of ``BUILTIN_METRICS``."""
        metrics = dict.fromkeys(metric for arm in self.list_arms() for metric in self.arms[arm])
        return [metric for metric in metrics if metric not in BUILTIN_METRICS] + [metric for metric in BUILTIN_METRICS if metric in metrics]

    def list_pairs(self) -> list[ArmPair]:
        """List the compared arms, ``delia-sft`` first."""
        keys = sorted(self.paired, key=lambda key: key != "delia-sft")
        return [ArmPair(*names, self.paired[key]) for key in keys if (names := self._split_pair(key))]

    def get_value(self, arm: str, metric: str) -> float | None:
        """Return the value of the estimate; None when the arm or the metric is missing, or no prompt was answered."""
        estimate = self.arms.get(arm, {}).get(metric)
        return None if estimate is None else estimate.value

    def _split_pair(self, key: str) -> tuple[str, str] | None:
        """Split a key of ``paired`` into its two arms, whose names may contain hyphens; None where they are not in ``arms``."""
        return next(((a, b) for a in self.arms for b in self.arms if key == f"{a}-{b}"), None)
