"""Who writes the wordings of the task's instruction, how many, and how different they must be."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from delia_ray.config import Config
from delia_ray.errors import UserError


class _Wordings(Config):
    """What every writer is asked for."""

    train_wordings: int = Field(default=40, ge=1)
    """Wordings for the training items, which take them in turn."""
    dev_wordings: int = Field(default=10, ge=0)
    """Wordings for the items on which settings are chosen."""
    test_wordings: int = Field(default=12, ge=1)
    """Wordings for the test items; none of them is seen in training. Fewer than six give no intervals, but for one."""
    max_similarity: float = Field(default=0.8, gt=0, le=1)
    """Any two wordings, of whatever split, have a ROUGE-L F1 below this."""
    seed: int = 0
    """Which wordings are drawn, and which split each one goes to."""


class GrammarRewrite(_Wordings):
    """The built-in grammar writes the wordings: no model, no cost. For the built-in `format` task."""

    kind: Literal["grammar"] = "grammar"
    dev_wordings: int = Field(default=16, ge=0)
    """Wordings for the items on which settings are chosen."""
    test_wordings: int = Field(default=40, ge=1)
    """Wordings for the test items; none of them is seen in training. Scores are as sure as there are many."""


class ModelRewrite(_Wordings):
    """A language model paraphrases the task's own instruction."""

    kind: Literal["model"] = "model"
    endpoint: str | None = Field(default=None, pattern=r"^https?://")
    """Base URL of an OpenAI-compatible server, for example http://127.0.0.1:8000/v1; null lets the model that is tuned write them."""
    endpoint_model: str | None = None
    """The model's name at that server, as its /v1/models lists it."""
    temperature: float = Field(default=1.0, gt=0, le=2)
    """Sampling temperature of the paraphrases."""
    attempts_per_wording: int = Field(default=8, ge=1)
    """Completions to spend, on average, for each wording before giving up."""

    @model_validator(mode="after")
    def _endpoint_and_its_model_come_together(self) -> Self:
        if self.endpoint is not None and self.endpoint_model is None:
            raise UserError(f"endpoint_model is missing for endpoint {self.endpoint!r}; give the name its /v1/models lists")
        if self.endpoint is None and self.endpoint_model is not None:
            raise UserError(f"endpoint_model {self.endpoint_model!r} needs an endpoint; give its base URL or drop endpoint_model")
        return self


class NoRewrite(Config):
    """Keep the user's own instruction as it is."""

    kind: Literal["none"] = "none"


RewriteConfig = Annotated[GrammarRewrite | ModelRewrite | NoRewrite, Field(discriminator="kind")]
