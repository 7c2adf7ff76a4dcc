"""Records of the probe's results, as ``gradients.json`` and ``probe.json`` hold them."""

from typing import Literal

from delia_ray.core.records import Record
from delia_ray.evaluation.statistics.intervals import Interval

Outcome = Literal["holds", "does not hold", "cannot be told", "not measured"]
PREDICTIONS = {
    "P1": "At the base weights, the diverse rows' gradient is far smaller for the model's own answers than for others'.",
    "P2": "After a step down the task's gradient, the diverse rows' gradient turns against it, the more the longer the step.",
    "P3": "The more diverse rows, the less tuning moves the weights along the top eigenvectors of the diverse rows' Fisher matrix.",
    "P4": "The more diverse rows, the less the tuned model diverges from the base model on diverse rows it was not trained on.",
    "P5": "The more diverse rows, the better the scores on unseen wordings and shifted formats, up to a point.",
}


class ArmFacts(Record):
    """Training settings of one arm."""

    ratio: float
    """rho."""
    learning_rate: float
    steps: int


class Facts(Record):
    """Sizes of the probe: how many weights, rows and products it examined."""

    parameters: int
    """Numbers in the model."""
    chosen: int
    """Numbers in the weights that are examined."""
    coordinates: int
    """Sampled coordinates of those weights."""
    rows: int
    """Diverse queries."""
    task_rows: int
    fisher_rows: int
    products: int
    """Products with the Fisher matrix."""
    residuals: list[float]
    """|F y - lambda y| / lambda_1 of each top eigenvector."""
    answer_tokens: int
    """Longest answer sampled at temperature 1."""
    foreign: Literal["shuffled", "file"]
    """Foreign answers: the pool's answers to other queries, or those of the user's file."""


class Norms(Record):
    """Norms of the mean gradient per token, of one set of rows."""

    plain: Interval
    corrected: Interval
    """Without the noise of sampling so few rows."""
    tokens: int


class LayerGradients(Record):
    """The gradients of the task and of the diverse rows in one layer."""

    name: str
    task_norm: float
    diverse_norm: float
    """Of the pool's rows."""
    cosine: Interval
    """Of the two gradients."""


class GradientStep(Record):
    """The diverse rows' gradient after one step down the task's gradient."""

    length: float
    """Of the step, as a fraction of the weights' norm."""
    eta: float
    """The step is eta times the task's gradient."""
    cosine: Interval
    """With the task's gradient."""
    pull: Interval
    """Restoring force: the part of the negative gradient that points back along the step."""
    predicted: Interval
    """The restoring force to first order: eta g_T' F g_T / |g_T|."""


class WeightUpdate(Record):
    """The update of one arm: tuned weights minus base weights."""

    whole: float
    """Norm over all weights of the model."""
    chosen: float
    """Norm over the weights that are examined."""
    along: Interval
    """Norm of its projection on the top eigenvectors."""
    share: Interval
    """The projection's norm divided by the update's norm."""


class ArmDifference(Record):
    """A quantity of the arm with more diverse rows minus that of the arm with fewer."""

    fewer: str
    """The arm with fewer diverse rows."""
    more: str
    """The arm with more."""
    difference: float
    low: float | None
    high: float | None
    p: float | None = None
    """Two-sided p-value of the difference being 0, where there is a test of it."""
    note: str | None = None
    """Why there is no interval, where there is none."""


class Measurements(Record):
    """Content of ``gradients.json``."""

    facts: Facts
    arms: dict[str, ArmFacts]
    norms: dict[str, Norms]
    """``own`` (sampled at temperature 1), ``pool`` (as trained on), ``foreign``, ``task``."""
    foreign_minus_own: Interval
    """Difference of the squared corrected norms, over the same queries."""
    whole_cosines: dict[str, Interval]
    """Set -> cosine of its gradient with the task's."""
    layers: list[LayerGradients]
    steps: list[GradientStep]
    cosine_change: Interval
    """Cosine after the longest step minus that after the shortest."""
    eigenvalues: list[Interval]
    updates: dict[str, WeightUpdate]
    along: list[ArmDifference]
    """Of ``WeightUpdate.along``."""
    share: list[ArmDifference]
    """Of ``WeightUpdate.share``."""
    divergences: dict[str, Interval]
    """Arm -> mean KL per token from the base model on held-out diverse rows, in nats; empty where every row was trained on."""
    diverged: list[ArmDifference]
    """Of ``divergences``."""


class Prediction(Record):
    """Outcome of one prediction, in a word and in a sentence."""

    outcome: Outcome
    sentence: str


class ProbeReport(Record):
    """Content of ``probe.json``."""

    run: str
    measured: Measurements
    scores: dict[str, dict[str, Interval]]
    """Metric -> arm -> value; of the arms that were scored."""
    scored: dict[str, list[ArmDifference]]
    """Metric -> differences of the scored arms with neighboring ratios."""
    predictions: dict[str, Prediction]
