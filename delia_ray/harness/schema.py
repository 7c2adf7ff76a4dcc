"""What lm-eval found, and how models compare: the content of ``results.json`` and of ``retention.json``."""

from delia_ray.records import Record


class TaskMetric(Record):
    """One metric of one task, for one model."""

    task: str
    metric: str
    filter: str | None
    """How the answer was read before it was scored, where lm-eval offers several ways."""
    value: float
    stderr: float | None
    """Standard error as lm-eval gives it."""
    items: dict[str, float] | None
    """Item -> score; null where the metric is of the whole task only, such as a perplexity."""

    @property
    def title(self) -> str:
        return f"{self.task} {self.metric}" + (f" ({self.filter})" if self.filter else "")


class Found(Record):
    """Everything that lm-eval says of one model."""

    lm_eval: str
    """Its version."""
    metrics: list[TaskMetric]
    cut: int
    """How often lm-eval warned that it cut prompts off at their beginning, to fit ``max_length``."""


class Change(Record):
    """A metric after tuning, minus before it."""

    value: float
    difference: float | None
    """null in the model before tuning."""
    low: float | None
    high: float | None
    """95 % interval, paired by item; null without scores of single items."""
    p: float | None
    p_holm: float | None
    """``p`` after Holm's correction over the arms."""


class Retention(Record):
    """Every metric of every model: what tuning left."""

    lm_eval: list[str]
    """Versions of lm-eval that were used."""
    metrics: dict[str, dict[str, Change]]
    """``task metric`` -> arm -> change, the model before tuning first."""
    cut: dict[str, int]
    """Arm -> how often a prompt was cut."""
