"""Which tasks of lm-eval every finished model is asked."""

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from delia_ray.config import Config
from delia_ray.errors import UserError


class LmEval(Config):
    """Tasks of lm-eval, the Language Model Evaluation Harness: what tuning on another task left of them."""

    tasks: tuple[str, ...] = ()
    """Names of tasks or groups, as ``lm_eval ls tasks`` lists them or as the files in ``include`` call themselves."""
    include: Path | None = None
    """Folder with YAML files of further tasks."""
    limit: int | None = Field(default=None, ge=1)
    """Items of each task to ask, the first ones. null: all."""
    num_fewshot: int | None = Field(default=None, ge=0)
    """Solved items shown before each. null: as the task says."""
    chat: bool = False
    """Put each prompt into the model's chat template."""
    max_length: int = Field(default=2048, ge=32)
    """Longest prompt and answer together, in tokens; lm-eval cuts the beginning off a longer prompt, and says so in the log."""
    resamples: int = Field(default=1000, ge=1000)
    """Bootstrap resamples of the differences."""
    seed: int = 0
    """Of the solved items and of the bootstrap."""

    @model_validator(mode="after")
    def _folder_exists(self) -> Self:
        if self.include is not None and not self.include.is_dir():
            raise UserError(f"include: {self.include} is no folder; name the one that holds the tasks' YAML files")
        return self
