"""What the probe found, as ``gradients.json`` and ``probe.json`` hold it."""

from typing import Literal

from delia_ray.evaluation.bootstrap import Interval
from delia_ray.records import Record

Outcome = Literal["holds", "does not hold", "cannot be told", "not measured"]
PREDICTIONS = {
    "P1": "The diverse rows' gradient at the start is far smaller for the model's own answers than for others'.",
    "P2": "After a step down the task's gradient, the diverse rows' gradient turns against it, the more the longer the step.",
    "P3": "The more diverse rows, the less tuning moves the weights along the top eigenvectors of the diverse rows' Fisher matrix.",
    "P4": "The more diverse rows, the less the tuned model diverges from the start model on diverse rows it was not trained on.",
    "P5": "The more diverse rows, the better the scores on unseen wordings and shifted formats, up to a point.",
}


class ArmFacts(Record):
    ratio: float
    """rho."""
    learning_rate: float
    steps: int


class Facts(Record):
    """What was looked at."""

    parameters: int
    """Numbers in the model."""
    chosen: int
    """Numbers in the weights that were looked at."""
    coordinates: int
    """How many of those were drawn to stand for them."""
    rows: int
    """Diverse queries."""
    task_rows: int
    fisher_rows: int
    products: int
    """Products with the Fisher matrix."""
    residuals: list[float]
    """|F y - lambda y| / lambda_1 of each top eigenvector."""
    answer_tokens: int
    """Longest answer drawn at temperature 1."""
    foreign: Literal["shuffled", "file"]
    """Others' answers: the pool's answers to other queries, or those of the user's file."""


class Norms(Record):
    """Of the mean gradient a token, of one set of rows."""

    plain: Interval
    corrected: Interval
    """Without what sampling so few rows adds."""
    tokens: int


class Layer(Record):
    name: str
    task_norm: float
    diverse_norm: float
    """Of the pool's rows."""
    cosine: Interval
    """Of the two gradients."""


class Step(Record):
    """The diverse rows' gradient after one step down the task's."""

    length: float
    """Of the step, as a share of the weights' norm."""
    eta: float
    """The step is eta times the task's gradient."""
    cosine: Interval
    """With the task's gradient."""
    pull: Interval
    """Its part that points back along the step."""
    predicted: Interval
    """``pull`` to first order: eta g_T' F g_T / |g_T|."""


class Update(Record):
    """What tuning changed in one arm."""

    whole: float
    """Norm over all weights of the model."""
    chosen: float
    """Norm over the weights that were looked at."""
    along: Interval
    """Norm of its projection on the top eigenvectors."""
    share: Interval
    """That projection's norm over the update's."""


class Change(Record):
    """A quantity of the arm with more diverse rows minus that of one with fewer."""

    fewer: str
    more: str
    difference: float
    low: float | None
    high: float | None
    p: float | None = None
    """Two-sided p of its being 0, where there is a test of it."""
    note: str | None = None
    """Why there is no interval, where there is none."""


class Measured(Record):
    """``gradients.json``."""

    facts: Facts
    arms: dict[str, ArmFacts]
    norms: dict[str, Norms]
    """``own`` (drawn at temperature 1), ``pool`` (as trained on), ``foreign``, ``task``."""
    foreign_minus_own: Interval
    """Squared corrected norms, over the same queries."""
    whole_cosines: dict[str, Interval]
    """Set -> cosine of its gradient with the task's."""
    layers: list[Layer]
    steps: list[Step]
    cosine_change: Interval
    """Cosine after the longest step minus that after the shortest."""
    eigenvalues: list[Interval]
    updates: dict[str, Update]
    along: list[Change]
    share: list[Change]
    divergences: dict[str, Interval]
    """Arm -> mean KL a token from the start model on held-out diverse rows, in nats; empty where no row was left over."""
    diverged: list[Change]


class Prediction(Record):
    outcome: Outcome
    sentence: str


class Findings(Record):
    """``probe.json``."""

    run: str
    measured: Measured
    scores: dict[str, dict[str, Interval]]
    """Metric -> arm -> value; of the arms that were scored."""
    scored: dict[str, list[Change]]
    """Metric -> what each step to more diverse rows changed."""
    predictions: dict[str, Prediction]
