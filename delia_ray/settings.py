"""The whole YAML of a run: one section a stage, and where each runs."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self, cast

from pydantic import Field, field_validator, model_validator

from delia_ray.config import Config
from delia_ray.errors import UserError
from delia_ray.evaluation.config import ScoreConfig
from delia_ray.harness.config import LmEval
from delia_ray.judging.config import Judges
from delia_ray.mixing.config import CleanConfig, Deduplicate, MixConfig
from delia_ray.placement import Placement
from delia_ray.probing.config import ProbeConfig
from delia_ray.probing.token_config import TokenProbe
from delia_ray.rewriting.config import GrammarRewrite, NoRewrite, RewriteConfig
from delia_ray.synthesis.config import SynthesizeConfig
from delia_ray.synthesis.quotas import with_rows
from delia_ray.tasks.config import Decontaminate, FormatTask, TaskConfig
from delia_ray.tasks.metric_names import JUDGED
from delia_ray.training.batches import steps_for
from delia_ray.training.config import FinetuneConfig, Objective, Parameters

POOL = "diverse"
"""The pool that ``synthesize`` makes."""
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
    rows: Literal["mixture", "diverse"] = "mixture"
    """diverse: leave the task's own rows out."""
    task_rows: int | None = Field(default=None, ge=1)
    """N: training rows of the task to take. null: ``mix.task_rows``."""
    pool: str = "diverse"
    """Where its diverse rows come from: what ``synthesize`` makes, or one of ``pools``."""
    wordings: Literal["rewritten", "original"] = "rewritten"
    """original: the task's own instruction in every training row. The rows that are scored are always worded anew."""
    targets: Literal["given", "own"] = "given"
    """own: the training rows' targets as the untrained model puts them when it is shown them, where that still does the task (SDFT)."""
    steps: Literal["matched", "own"] = "matched"
    """matched: as many as ``finetune.epochs`` passes over the mixture at ``mix.ratio`` need. own: as many passes over its own rows."""
    learning_rate: float | None = Field(default=None, gt=0)
    """null: ``finetune.learning_rate``."""
    objective: Objective | None = None
    """null: ``finetune.objective``."""
    parameters: Parameters | None = None
    """null: ``finetune.parameters``."""
    order: Literal["shuffled", "task_first", "task_last"] | None = None
    """null: ``finetune.order``."""
    seed: int | None = None
    """Seed of the draw, the shuffle and the training. null: ``mix.seed`` and ``finetune.seed``."""


class Settings(Config):
    """Everything a run needs to know."""

    run: Run
    model: str = "builtin:smollm2-135m-instruct"
    """The model to tune: ``builtin:smollm2-135m-instruct``, a Hugging Face folder, or a hub id (``owner/name[@revision]``)."""
    chat_template_kwargs: dict[str, bool | int | float | str | None] = Field(default={})
    """Arguments of the model's chat template, such as ``{date_string: 1 Jan 2030}``. They are written into the template that is
    saved with every model of the run. Reasoning is off wherever a template has a switch for it (``enable_thinking``)."""
    task: TaskConfig = FormatTask()
    rewrite: RewriteConfig | None = None
    """null: the grammar for the built-in format task, nothing for others."""
    synthesize: SynthesizeConfig = SynthesizeConfig()
    decontaminate: Decontaminate | None = Decontaminate()
    """null: training rows, the task's own and diverse ones, may overlap with what is scored."""
    pools: dict[str, SynthesizeConfig] = Field(default={})
    """Other pools of diverse rows for arms to take: what each says is laid over ``synthesize``."""
    deduplicate: Deduplicate | None = Deduplicate()
    """null: diverse rows may be near-duplicates of each other and of the task's training rows."""
    mix: MixConfig = MixConfig()
    finetune: FinetuneConfig = FinetuneConfig()
    arms: dict[str, Arm | None] = Field(default={"it": Arm(ratio=0.0), "delia": Arm()})
    """What to train and compare: ``it`` is plain instruction tuning. ``null`` leaves an arm out."""
    score: ScoreConfig = ScoreConfig()
    judges: Judges = Judges()
    probe: ProbeConfig = ProbeConfig()
    lm_eval: LmEval = LmEval()
    placement: Placement = Placement()

    @model_validator(mode="before")
    @classmethod
    def _laid_over(cls, given: Any) -> Any:
        """Each pool says only where it differs from ``synthesize``."""
        if not isinstance(given, Mapping) or not isinstance(given.get("pools"), Mapping):
            return given
        fields = dict(cast(Mapping[str, Any], given))
        usual = fields.get("synthesize") or {}
        if isinstance(usual, Mapping):
            pools = cast(Mapping[str, Any], fields["pools"])
            fields["pools"] = {name: _over(usual, own) if isinstance(own, Mapping) else own for name, own in pools.items()}
        return fields

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
        for name, arm in self.arms.items():
            if arm is not None and arm.pool != POOL and arm.pool not in self.pools:
                raise UserError(f"arms.{name}.pool: no pool is called {arm.pool!r}; add it to pools, or use one of {[POOL, *self.pools]}")
        if POOL in self.pools:
            raise UserError(f"pools.{POOL}: that is what synthesize makes; choose another name")
        for name in JUDGED:
            if not isinstance(self.task, FormatTask) and name in self.task.metric and getattr(self.judges, name) is None:
                raise UserError(f"judges.{name}: task.metric names {name}, and nothing says where its weights are; say it here")
        if isinstance(self.rewrite, GrammarRewrite) and not isinstance(self.task, FormatTask):
            raise UserError(f"rewrite.kind: grammar writes for task.kind=format only, found {self.task.kind}; use model or none")
        if self.probe.tokens is not None:
            self.probe.tokens.filled(self.task)
        trained, served = self.finetune.precision, self.placement.engine.dtype
        if "auto" not in (trained, served) and trained != served:
            raise UserError(
                f"placement.engine.dtype: found {served}, and finetune.precision is {trained}; a run has one precision: set "
                "one of them, or both alike"
            )
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

    @property
    def token_probe(self) -> TokenProbe:
        """``probe.tokens`` with the task's defaults filled in.

        Raises:
            UserError: the task has no new token, or its concepts are not known.
        """
        return (self.probe.tokens or TokenProbe()).filled(self.task)

    def mix_for(self, arm: Arm) -> MixConfig:
        """``mix`` with what ``arm`` says otherwise."""
        return self.mix.model_copy(update={"rows": arm.rows, **_said(arm, "ratio", "task_rows", "seed")})

    def finetune_for(self, arm: Arm) -> FinetuneConfig:
        """``finetune`` with what ``arm`` says otherwise.

        Raises:
            UserError: the two do not go together.
        """
        said = _said(arm, "learning_rate", "objective", "parameters", "order", "seed")
        return FinetuneConfig.model_validate({**dict(self.finetune), **said})

    def steps_of(self, arm: Arm, task_rows: int) -> int:
        """Optimiser steps of ``arm`` over ``task_rows`` rows of the task."""
        ratio = self.mix.ratio if arm.steps == "matched" else self.mix_for(arm).ratio
        return steps_for(task_rows, ratio, self.finetune.epochs, self.finetune.batch_rows)

    @property
    def max_model_len(self) -> int:
        """Tokens of the longest conversation served: a row as long as training allows, and an answer."""
        return self.finetune.max_row_tokens + max(self.score.max_tokens, self.score.ordinary_tokens)

    def queries_of(self, pool: str) -> tuple[str, bool]:
        """The setting that says where the queries of ``pool`` come from, and whether it says how many."""
        config, key = (self.synthesize, "synthesize") if pool == POOL else (self.pools[pool], f"pools.{pool}")
        return f"{key}.queries", "rows" in type(config.queries).model_fields

    def synthesize_for(self, pool: str, rows: int) -> SynthesizeConfig:
        """What makes ``pool``, with enough queries for ``rows`` diverse rows, where their number is left open."""
        config = self.synthesize if pool == POOL else self.pools[pool]
        wanted = math.ceil(OVERSAMPLE * rows / config.draws_per_query)
        return config.model_copy(update={"queries": with_rows(config.queries, wanted)})


def _over(usual: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """``own`` laid over ``usual``; a section of another ``kind`` replaces the usual one."""
    laid = dict(usual)
    for key, value in own.items():
        below = laid.get(key)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            there, here = cast(Mapping[str, Any], below), cast(Mapping[str, Any], value)
            value = _over(there, here) if here.get("kind", there.get("kind")) == there.get("kind", here.get("kind")) else here
        laid[key] = value
    return laid


def _said(arm: Arm, *names: str) -> dict[str, Any]:
    """The fields of ``arm`` that are not left open."""
    return {name: value for name in names if (value := getattr(arm, name)) is not None}
