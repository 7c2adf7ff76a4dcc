"""The whole YAML of a run: one section a stage, and where each runs."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self, cast

from pydantic import Field, field_validator, model_validator

from delia_ray.config import Config
from delia_ray.errors import UserError
from delia_ray.evaluation.config import ScoreConfig
from delia_ray.mixing.config import CleanConfig, Deduplicate, MixConfig
from delia_ray.placement import Placement
from delia_ray.rewriting.config import GrammarRewrite, NoRewrite, RewriteConfig
from delia_ray.synthesis.config import SynthesizeConfig
from delia_ray.synthesis.quotas import with_rows
from delia_ray.tasks.config import Decontaminate, FormatTask, TaskConfig
from delia_ray.training.config import FinetuneConfig

OVERSAMPLE = 2.0
"""Queries for each diverse row that is needed: some are refused, and some of their answers."""


class Run(Config):
    """Where the run's artifacts go."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Folder below ``root``; one name holds one request."""
    root: Path = Path("runs")
    """Folder of all runs."""

    @property
    def path(self) -> Path:
        return self.root / self.name


class Arm(Config):
    """One way to train on the same task items, for the same number of steps."""

    ratio: float | None = Field(default=None, ge=0)
    """Diverse rows for each task row. null: ``mix.ratio``."""
    learning_rate: float | None = Field(default=None, gt=0)
    """null: ``finetune.learning_rate``."""


class Settings(Config):
    """Everything a run needs to know."""

    run: Run
    model: str = "builtin:smollm2-135m-instruct"
    """The model to tune: ``builtin:smollm2-135m-instruct``, a Hugging Face folder, or a hub id (``owner/name[@revision]``)."""
    task: TaskConfig = FormatTask()
    rewrite: RewriteConfig | None = None
    """null: the grammar for the built-in format task, nothing for others."""
    synthesize: SynthesizeConfig = SynthesizeConfig()
    decontaminate: Decontaminate | None = Decontaminate()
    """null: training rows, the task's own and diverse ones, may overlap with what is scored."""
    deduplicate: Deduplicate | None = Deduplicate()
    """null: diverse rows may be near-duplicates of each other and of the task's training rows."""
    mix: MixConfig = MixConfig()
    finetune: FinetuneConfig = FinetuneConfig()
    arms: dict[str, Arm | None] = Field(default={"it": Arm(ratio=0.0), "delia": Arm()})
    """What to train and compare: ``it`` is plain instruction tuning. ``null`` leaves an arm out."""
    score: ScoreConfig = ScoreConfig()
    placement: Placement = Placement()

    @field_validator("arms", mode="before")
    @classmethod
    def _default_arms(cls, given: Any) -> Any:
        """Arms that are not named, and what is not said of the usual ones, stay as they are; ``null`` leaves one out."""
        if not isinstance(given, Mapping):
            return given
        usual: dict[str, Mapping[str, Any]] = {"it": {"ratio": 0.0}, "delia": {}}
        named = cast(Mapping[str, Any], given)
        return usual | {
            name: {**usual.get(name, {}), **cast(Mapping[str, Any], arm)} if isinstance(arm, Mapping) else arm
            for name, arm in named.items()
        }

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if not any(self.arms.values()):
            raise UserError("arms: none is left to train; keep at least one")
        if "base" in self.arms:
            raise UserError("arms.base: the untrained model is always scored under that name; choose another")
        if isinstance(self.rewrite, GrammarRewrite) and not isinstance(self.task, FormatTask):
            raise UserError(f"rewrite.kind: grammar writes for task.kind=format only, found {self.task.kind}; use model or none")
        return self

    @property
    def rewriting(self) -> RewriteConfig:
        """``rewrite`` with its default filled in."""
        return self.rewrite or (GrammarRewrite() if isinstance(self.task, FormatTask) else NoRewrite())

    @property
    def cleaning(self) -> CleanConfig | None:
        """What the pool is cleared of; null where it is left as it is."""
        config = CleanConfig(decontaminate=self.decontaminate, deduplicate=self.deduplicate)
        return config if config.decontaminate or config.deduplicate else None

    def ratio_of(self, arm: Arm) -> float:
        """Diverse rows for each task row of ``arm``."""
        return self.mix.ratio if arm.ratio is None else arm.ratio

    @property
    def max_model_len(self) -> int:
        """Tokens of the longest conversation served: a row as long as training allows, and an answer."""
        return self.finetune.max_row_tokens + max(self.score.max_tokens, self.score.ordinary_tokens)

    def synthesize_for(self, rows: int) -> SynthesizeConfig:
        """``synthesize`` with enough queries for ``rows`` diverse rows, where their number is left open."""
        wanted = math.ceil(OVERSAMPLE * rows / self.synthesize.draws_per_query)
        return self.synthesize.model_copy(update={"queries": with_rows(self.synthesize.queries, wanted)})
