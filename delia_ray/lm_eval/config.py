"""The ``lm_eval`` section of a config: the lm-eval tasks to run on every finished model."""

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from delia_ray.core.config import Config
from delia_ray.core.errors import UserError


class LmEval(Config):
    """Tasks of lm-eval, the Language Model Evaluation Harness, before and after tuning."""

    tasks: tuple[str, ...] = ()
    """Names of tasks or groups, as ``lm_eval ls tasks`` lists them or as the files in ``include`` define them."""
    include: Path | None = None
    """Folder with YAML files of more tasks."""
    limit: int | None = Field(default=None, ge=1)
    """Number of items of each task, the first ones. null: all."""
    num_fewshot: int | None = Field(default=None, ge=0)
    """Number of few-shot examples in each prompt. null: the task's default."""
    chat: bool = False
    """Apply the model's chat template to each prompt."""
    max_length: int = Field(default=2048, ge=32)
    """Longest prompt and answer together, in tokens; lm-eval truncates a longer prompt on the left, with a warning in the log."""
    resamples: int = Field(default=1000, ge=1000)
    """Number of bootstrap resamples for the differences."""
    seed: int = 0
    """Seed of the few-shot examples and of the bootstrap."""

    @model_validator(mode="after")
    def _folder_exists(self) -> Self:
        if self.include is not None and not self.include.is_dir():
            raise UserError(f"include: {self.include} is no folder; name the one that holds the tasks' YAML files")
        return self
