"""Records of lm-eval's results and of the changes by tuning: the content of ``results.json`` and of ``changes.json``."""

from delia_ray.core.records import Record


class TaskMetric(Record):
    """One metric of one task, for one model."""

    task: str
    metric: str
    filter: str | None
    """lm-eval's filter that processed the answer before scoring, if the task has filters."""
    value: float
    stderr: float | None
    """Standard error, as lm-eval reports it."""
    items: dict[str, float] | None
    """Item -> score; None for a metric of the whole task, such as a perplexity."""

    @property
    def title(self) -> str:
        return f"{self.task} {self.metric}" + (f" ({self.filter})" if self.filter else "")


class LmEvalResults(Record):
    """lm-eval's results for one model."""

    lm_eval: str
    """lm-eval's version."""
    metrics: list[TaskMetric]
    truncated_prompts: int
    """Number of lm-eval's warnings that it truncated a prompt on the left to fit ``max_length``."""


class LmEvalChange(Record):
    """A metric of one model, and its difference from the model before tuning."""

    value: float
    difference: float | None
    """None for the model before tuning."""
    low: float | None
    high: float | None
    """95 % interval, paired by item; None without item scores."""
    p: float | None
    p_holm: float | None
    """``p`` after Holm's correction over the arms."""


class LmEvalChanges(Record):
    """Every metric of every model, and its change by tuning."""

    lm_eval: list[str]
    """Versions of lm-eval."""
    metrics: dict[str, dict[str, LmEvalChange]]
    """``task metric`` -> arm -> change, the model before tuning first."""
    truncated_prompts: dict[str, int]
    """Arm -> number of warnings of a truncated prompt."""
