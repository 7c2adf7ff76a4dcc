"""Config of the rewrite stage: which writer produces wordings of the task's instruction, how many, and how different they must be."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from delia_ray.core.config import Config
from delia_ray.core.errors import UserError


class _Wordings(Config):
    """Settings that all writers have in common."""

    train_wordings: int = Field(default=40, ge=1)
    """Wordings for the training items, assigned to them in turn."""
    dev_wordings: int = Field(default=10, ge=0)
    """Wordings for the items on which settings are chosen."""
    test_wordings: int = Field(default=12, ge=1)
    """Wordings for the test items; none of them is seen in training. With two to five of them scores have no intervals."""
    max_similarity: float = Field(default=0.8, gt=0, le=1)
    """Any two wordings, in the same split or not, have a ROUGE-L F1 below this."""
    seed: int = 0
    """Seed of the generated wordings and of their assignment to splits."""


class GrammarRewrite(_Wordings):
    """Wordings from the built-in grammar: no model, no cost. For the built-in `format` task."""

    kind: Literal["grammar"] = "grammar"
    dev_wordings: int = Field(default=16, ge=0)
    """Wordings for the items on which settings are chosen."""
    test_wordings: int = Field(default=40, ge=1)
    """Wordings for the test items; none of them is seen in training. More wordings give narrower intervals."""


class ModelRewrite(_Wordings):
    """Wordings from a language model that paraphrases the task's own instruction."""

    kind: Literal["model"] = "model"
    endpoint: str | None = Field(default=None, pattern=r"^https?://")
    """Base URL of an OpenAI-compatible server, for example http://127.0.0.1:8000/v1. null: the model that is fine-tuned."""
    endpoint_model: str | None = None
    """Name of the model at that server, as its /v1/models lists it."""
    temperature: float = Field(default=1.0, gt=0, le=2)
    """Sampling temperature of the paraphrases."""
    attempts_per_wording: int = Field(default=8, ge=1)
    """Maximal number of completions for each wording, on average."""

    @model_validator(mode="after")
    def _check_endpoint(self) -> Self:
        if self.endpoint is not None and self.endpoint_model is None:
            raise UserError(f"endpoint_model is missing for endpoint {self.endpoint!r}; give the name its /v1/models lists")
        if self.endpoint is None and self.endpoint_model is not None:
            raise UserError(f"endpoint_model {self.endpoint_model!r} needs an endpoint; give its base URL or drop endpoint_model")
        return self


class NoRewrite(Config):
    """Keep the user's own instruction as it is."""

    kind: Literal["none"] = "none"


RewriteConfig = Annotated[GrammarRewrite | ModelRewrite | NoRewrite, Field(discriminator="kind")]
