"""The ``experiment`` section of a config, and the settings of the verb that reads it."""

from typing import Self

from pydantic import Field, model_validator

from delia_ray.core.config import Config
from delia_ray.core.errors import UserError
from delia_ray.settings import Settings
from delia_ray.tasks.config import FormatTask
from delia_ray.tasks.format_task import TOKEN_MEANING


class Grid(Config):
    """What is varied. Every arm of ``arms`` is trained with every seed; the rest is for the arms that are named."""

    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1)
    """Seeds of the sampling of rows, the shuffle and the training. With several, they are the unit of every interval."""
    learning_rates: tuple[float, ...] = ()
    """Tried for every arm at every ratio and size, with the first seed; the best on dev is taken. Empty: each arm's own."""
    choose: str | None = None
    """Metric to maximize on dev when choosing a learning rate. null: ``selectivity``, or the task's own metric."""
    ratios: dict[str, tuple[float, ...]] = Field(default={})
    """Arm -> ratios to train it at, besides its own."""
    task_rows: dict[str, tuple[int, ...]] = Field(default={})
    """Arm -> N to train it at, besides its own."""
    meaning: str | None = Field(default=None, min_length=1)
    """What the token stands for, in words that fit its place in a prompt: the base model is asked with them, as an upper bound
    of what the token may carry. null: the built-in task's own, nothing for others."""
    rival: str = "sft"
    """The arm that every other is compared with, seed by seed."""

    @model_validator(mode="after")
    def _nothing_twice(self) -> Self:
        for name in ("seeds", "learning_rates"):
            values = getattr(self, name)
            if len(set(values)) < len(values):
                raise UserError(f"{name}: {list(values)} has a value twice; name each once")
        return self


class ExperimentSettings(Settings):
    """A run's settings, and what to vary."""

    experiment: Grid = Grid()

    @model_validator(mode="after")
    def _arms_are_there(self) -> Self:
        trained = [name for name, arm in self.arms.items() if arm is not None]
        for key, named in (("ratios", self.experiment.ratios), ("task_rows", self.experiment.task_rows)):
            if unknown := [name for name in named if name not in trained]:
                raise UserError(f"experiment.{key}.{unknown[0]}: no arm has that name; name one of {trained}")
        if self.experiment.meaning is not None and self.task.token is None:
            raise UserError("experiment.meaning: the task has no token to spell out; give it one (task.token=...), or drop the meaning")
        if self.experiment.rival not in trained:
            raise UserError(f"experiment.rival: no arm is called {self.experiment.rival!r}; name one of {trained}")
        return self

    @property
    def meaning(self) -> str | None:
        """``experiment.meaning`` with its default filled in."""
        return self.experiment.meaning or (TOKEN_MEANING if isinstance(self.task, FormatTask) else None)
