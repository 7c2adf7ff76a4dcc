"""Settings of a run, as in YAML: a section for each stage, and the placement."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self, cast

from pydantic import Field, field_validator, model_validator

from delia_ray.core.config import Config, build_config
from delia_ray.core.errors import UserError
from delia_ray.core.layout import DEFAULT_POOL
from delia_ray.core.storage.config import StoredPath, place_in_mirror
from delia_ray.evaluation.config import ScoreConfig
from delia_ray.learned_metrics.config import LearnedMetrics
from delia_ray.lm_eval.config import LmEval
from delia_ray.mixing.config import CleanConfig, Deduplicate, MixConfig
from delia_ray.placement import Placement
from delia_ray.probing.config import ProbeConfig
from delia_ray.probing.tokens.config import TokenProbeConfig
from delia_ray.rewriting.config import GrammarRewrite, NoRewrite, RewriteConfig
from delia_ray.synthesis.config import SynthesizeConfig
from delia_ray.synthesis.query_config import set_default_rows
from delia_ray.tasks.answer_metrics import LEARNED_METRICS
from delia_ray.tasks.config import Decontaminate, FormatTask, TaskConfig
from delia_ray.training.config import FinetuneConfig, Objective, Parameters
from delia_ray.training.data.batch_sampler import count_steps

QUERY_OVERSAMPLING = 2.0
"""Queries for each required diverse row: some queries and some answers are rejected."""


class RunConfig(Config):
    """Name and folder of a run."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    """Folder of the run below ``root``; a name is bound to one request."""
    root: StoredPath = Path("runs")
    """Folder of all runs; on a cluster one that all nodes share, or ``s3://bucket/folder`` or ``gs://bucket/folder``."""

    @property
    def path(self) -> Path:
        return self.root / self.name


class Arm(Config):
    """An experiment arm: a way to train on the same task items, by default for the same number of steps."""

    ratio: float | None = Field(default=None, ge=0)
    """Number of diverse rows for each task row. null: ``mix.ratio``."""
    rows: Literal["mixture", "diverse"] = "mixture"
    """mixture: task and diverse rows. diverse: without the task rows."""
    task_rows: int | None = Field(default=None, ge=1)
    """N, the number of training rows of the task. null: ``mix.task_rows``."""
    pool: str = DEFAULT_POOL
    """Pool of its diverse rows: ``diverse``, the one that ``synthesize`` generates, or one of ``pools``."""
    wordings: Literal["rewritten", "original"] = "rewritten"
    """original: all training rows have the task's own instruction. Evaluation rows are always rewritten."""
    targets: Literal["given", "own"] = "given"
    """own: self-distilled targets (SDFT), the training targets as the base model rephrases them, if they still solve the task."""
    steps: Literal["matched", "own"] = "matched"
    """matched: the steps of ``finetune.epochs`` epochs over the mixture at ``mix.ratio``. own: of as many epochs over the arm's rows."""
    learning_rate: float | None = Field(default=None, gt=0)
    """null: ``finetune.learning_rate``."""
    objective: Objective | None = None
    """null: ``finetune.objective``."""
    parameters: Parameters | None = None
    """null: ``finetune.parameters``."""
    order: Literal["shuffled", "task_first", "task_last"] | None = None
    """null: ``finetune.order``."""
    seed: int | None = None
    """Seed of the sampling of rows, the shuffle and the training. null: ``mix.seed`` and ``finetune.seed``."""


class Settings(Config):
    """All settings of a run."""

    run: RunConfig
    model: str = "builtin:smollm2-135m-instruct"
    """The model to tune: ``builtin:smollm2-135m-instruct``, a Hugging Face folder, or a hub id (``owner/name[@revision]``)."""
    chat_template_kwargs: dict[str, bool | int | float | str | None] = Field(default={})
    """Arguments of the model's chat template, such as ``{date_string: 1 Jan 2030}``. They are written into the template that is
    saved with every model of the run. Reasoning is off if the template has a switch for it (``enable_thinking``)."""
    task: TaskConfig = FormatTask()
    rewrite: RewriteConfig | None = None
    """Rewriting of instructions. null: by grammar for the built-in format task, none for other tasks."""
    synthesize: SynthesizeConfig = SynthesizeConfig()
    decontaminate: Decontaminate | None = Decontaminate()
    """Removal of task and diverse training rows that overlap with evaluation rows. null: none."""
    pools: dict[str, SynthesizeConfig] = Field(default={})
    """Further pools of diverse rows for arms, by name; the keys of each are merged over ``synthesize``."""
    deduplicate: Deduplicate | None = Deduplicate()
    """Removal of diverse rows that are near-duplicates of each other or of the task's training rows. null: none."""
    mix: MixConfig = MixConfig()
    finetune: FinetuneConfig = FinetuneConfig()
    arms: dict[str, Arm | None] = Field(default={"sft": Arm(ratio=0.0), "delia": Arm()})
    """Arms to train and compare, by name; ``sft`` is plain supervised fine-tuning. ``null`` leaves an arm out."""
    score: ScoreConfig = ScoreConfig()
    learned_metrics: LearnedMetrics = LearnedMetrics()
    probe: ProbeConfig = ProbeConfig()
    lm_eval: LmEval = LmEval()
    placement: Placement = Placement()

    @model_validator(mode="before")
    @classmethod
    def _merge_pools(cls, data: Any) -> Any:
        """Merge the keys of each pool over ``synthesize``."""
        if not isinstance(data, Mapping) or not isinstance(data.get("pools"), Mapping):
            return data
        fields = dict(cast(Mapping[str, Any], data))
        default = fields.get("synthesize") or {}
        if isinstance(default, Mapping):
            pools = cast(Mapping[str, Any], fields["pools"])
            fields["pools"] = {name: _merge(default, pool) if isinstance(pool, Mapping) else pool for name, pool in pools.items()}
        return fields

    @model_validator(mode="before")
    @classmethod
    def _place_in_mirror(cls, data: Any) -> Any:
        return place_in_mirror(data, "placement.cluster.mirror", "run.root", "placement.cache")

    @field_validator("arms", mode="before")
    @classmethod
    def _merge_default_arms(cls, data: Any) -> Any:
        """Merge ``arms`` over the default arms; ``null`` leaves an arm out."""
        if not isinstance(data, Mapping):
            return data
        defaults: dict[str, Mapping[str, Any]] = {"sft": {"ratio": 0.0}, "delia": {}}
        arms = cast(Mapping[str, Any], data)
        return defaults | {
            name: {**defaults.get(name, {}), **cast(Mapping[str, Any], arm)} if isinstance(arm, Mapping) else arm
            for name, arm in arms.items()
        }

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        if not any(self.arms.values()):
            raise UserError("arms: none is left to train; keep at least one")
        if "base" in self.arms:
            raise UserError("arms.base: the base model is always scored under that name; choose another")
        for name, arm in self.arms.items():
            if arm is not None and arm.pool != DEFAULT_POOL and arm.pool not in self.pools:
                raise UserError(
                    f"arms.{name}.pool: no pool is called {arm.pool!r}; add it to pools, or use one of {[DEFAULT_POOL, *self.pools]}"
                )
        if DEFAULT_POOL in self.pools:
            raise UserError(f"pools.{DEFAULT_POOL}: that is what synthesize makes; choose another name")
        for name in LEARNED_METRICS:
            if not isinstance(self.task, FormatTask) and name in self.task.metric and getattr(self.learned_metrics, name) is None:
                raise UserError(f"learned_metrics.{name}: task.metric names {name}, and its weights are not configured; set them here")
        if isinstance(self.rewrite, GrammarRewrite) and not isinstance(self.task, FormatTask):
            raise UserError(f"rewrite.kind: grammar writes for task.kind=format only, found {self.task.kind}; use model or none")
        if self.probe.tokens is not None:
            self.probe.tokens.fill_defaults(self.task)
        training, serving = self.finetune.precision, self.placement.engine.dtype
        if "auto" not in (training, serving) and training != serving:
            raise UserError(
                f"placement.engine.dtype: found {serving}, and finetune.precision is {training}; a run has one precision: set "
                "one of them, or both alike"
            )
        return self

    @property
    def rewrite_config(self) -> RewriteConfig:
        """``rewrite`` with its default filled in."""
        return self.rewrite or (GrammarRewrite() if isinstance(self.task, FormatTask) else NoRewrite())

    @property
    def clean_config(self) -> CleanConfig | None:
        """Config of the cleaning of diverse pools; None without decontamination and deduplication."""
        config = CleanConfig(decontaminate=self.decontaminate, deduplicate=self.deduplicate)
        return config if config.decontaminate or config.deduplicate else None

    @property
    def token_probe(self) -> TokenProbeConfig:
        """``probe.tokens`` with the task's defaults filled in.

        Raises:
            UserError: the task has no new token, or no concepts are configured for it.
        """
        return (self.probe.tokens or TokenProbeConfig()).fill_defaults(self.task)

    def resolve_mix(self, arm: Arm) -> MixConfig:
        """Return ``mix`` with the overrides of ``arm``."""
        return self.mix.model_copy(update={"rows": arm.rows, **_get_overrides(arm, "ratio", "task_rows", "seed")})

    def resolve_finetune(self, arm: Arm) -> FinetuneConfig:
        """Return ``finetune`` with the overrides of ``arm``.

        Raises:
            UserError: they are inconsistent.
        """
        overrides = _get_overrides(arm, "learning_rate", "objective", "parameters", "order", "seed")
        return FinetuneConfig.model_validate({**dict(self.finetune), **overrides})

    def count_steps(self, arm: Arm, task_rows: int) -> int:
        """Count the optimizer steps of ``arm`` over ``task_rows`` rows of the task."""
        ratio = self.mix.ratio if arm.steps == "matched" else self.resolve_mix(arm).ratio
        return count_steps(task_rows, ratio, self.finetune.epochs, self.finetune.global_batch_size)

    @property
    def max_model_len(self) -> int:
        """Context length to serve, in tokens: a row of maximum training length, and an answer."""
        return self.finetune.max_seq_len + max(self.score.max_tokens, self.score.ordinary_tokens)

    def find_query_setting(self, pool: str) -> tuple[str, bool]:
        """Return the config key of the queries of ``pool``, and whether that config has a number of rows."""
        config, key = (self.synthesize, "synthesize") if pool == DEFAULT_POOL else (self.pools[pool], f"pools.{pool}")
        return f"{key}.queries", "rows" in type(config.queries).model_fields

    def resolve_synthesize(self, pool: str, rows: int) -> SynthesizeConfig:
        """Return the config of ``pool``, with enough queries for ``rows`` diverse rows if their number is not configured."""
        config = self.synthesize if pool == DEFAULT_POOL else self.pools[pool]
        queries = math.ceil(QUERY_OVERSAMPLING * rows / config.draws_per_query)
        return config.model_copy(update={"queries": set_default_rows(config.queries, queries)})


def _merge(default: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Merge ``overrides`` into ``default`` recursively; a section of another ``kind`` replaces the default one."""
    merged = dict(default)
    for key, value in overrides.items():
        current = merged.get(key)
        if isinstance(current, Mapping) and isinstance(value, Mapping):
            old, new = cast(Mapping[str, Any], current), cast(Mapping[str, Any], value)
            value = _merge(old, new) if new.get("kind", old.get("kind")) == old.get("kind", new.get("kind")) else new
        merged[key] = value
    return merged


def _get_overrides(arm: Arm, *names: str) -> dict[str, Any]:
    """Return those of the named fields of ``arm`` that are not None."""
    return {name: value for name in names if (value := getattr(arm, name)) is not None}


def load_settings(*files: str | Path, overrides: Sequence[str] = ()) -> Settings:
    """Read a config, as the command line does.

    Args:
        files: YAML files; later ones win.
        overrides: settings as ``key.path=value``, which win over all files.

    Raises:
        UserError: a file cannot be read, or a value does not fit; every bad key is named.
    """
    return build_config(Settings, [Path(file) for file in files], list(overrides))
