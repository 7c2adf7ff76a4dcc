from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from delia_ray.config import Config


class MeanInit(Config):
    """The mean of all rows, which puts the token where the model knows nothing of it."""

    kind: Literal["mean"] = "mean"


class NoiseInit(Config):
    """Gaussian noise with the mean and standard deviation of the existing rows."""

    kind: Literal["noise"] = "noise"
    seed: int = 0
    """Seed of the noise."""


class DescriptionInit(Config):
    """The mean of the rows of a text that says what the token means."""

    kind: Literal["description"] = "description"
    text: str = Field(min_length=1)
    """The text."""


class CopyInit(Config):
    """The row of a token that the model knows."""

    kind: Literal["copy"] = "copy"
    token: str = Field(min_length=1)
    """That token, as the vocabulary spells it."""


TokenInit = Annotated[MeanInit | NoiseInit | DescriptionInit | CopyInit, Field(discriminator="kind")]


class FormatTask(Config):
    """The paper's formatted generation: judge an exchange in a format that only a new token names."""

    kind: Literal["format"] = "format"
    train: int = Field(default=64, ge=2, le=320)
    """Items to learn from (N)."""
    dev: int = Field(default=32, ge=2, le=80)
    """Items to choose settings on."""
    test: int = Field(default=128, ge=2, le=200)
    """Items to score on."""
    token: str = Field(default="<sep>", min_length=1, pattern=r"^\S+$")
    """The new special token."""
    token_init: TokenInit = MeanInit()
    """How its embedding row starts."""
    vocabulary_multiple: int = Field(default=1, ge=1)
    """The vocabulary grows to a multiple of this; 64 suits the matrix units of GPUs."""
    metric: Literal["format"] = "format"
    """FormatAcc, LabelAcc and their kin (METHOD 4)."""
    seed: int = 0
    """Seed of the split and of the labels."""


class MessagesTask(Config):
    """The user's own task: chat ``messages`` in JSONL or Parquet, each ending with the assistant's target."""

    kind: Literal["messages"]
    train: Path
    """Rows to learn from."""
    test: Path
    """Rows to score on."""
    token: str | None = Field(default=None, min_length=1, pattern=r"^\S+$")
    """A new special token that the rows use, if any."""
    token_init: TokenInit = MeanInit()
    """How its embedding row starts."""
    vocabulary_multiple: int = Field(default=1, ge=1)
    """The vocabulary grows to a multiple of this; 64 suits the matrix units of GPUs."""
    instruction: str | None = Field(default=None, min_length=1)
    """The sentence of each last user turn that ``rewrite`` may word anew; null leaves the rows as they are."""
    metric: Literal["exact_match", "contains", "json_valid", "json_match", "rouge_l", "bleu", "chrf"] = "exact_match"
    """How an answer is scored against the row's target."""


class Decontaminate(Config):
    """When a training row, the task's own or a diverse one, is too close to a dev or test item or an everyday prompt.

    Such rows are left out and listed.
    """

    ngram_words: int = Field(default=13, ge=2)
    """Words in a row that an item, a query or an answer may not share with one."""
    similarity: float = Field(default=0.8, gt=0, le=1)
    """Jaccard similarity of runs of three words, from which on it is a near-duplicate of one."""


TaskConfig = Annotated[FormatTask | MessagesTask, Field(discriminator="kind")]
