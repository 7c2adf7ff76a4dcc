"""Memory of a run's training workers and engines, by the arms' settings and the longest rows that there can be."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from delia_ray.pipeline.plan.lengths import RowLengths
from delia_ray.pipeline.plan.rows import ArmPlan
from delia_ray.ray_runtime.resources import GIB
from delia_ray.ray_runtime.vllm_arguments import get_memory_share
from delia_ray.serving.memory import EngineMemory, estimate_engine
from delia_ray.settings import Settings
from delia_ray.synthesis.config import VllmEngine
from delia_ray.training.config import FinetuneConfig, trains_adapter
from delia_ray.training.memory.estimate import TrainingMemory, estimate_training
from delia_ray.training.memory.micro_batch import MicroBatch

_CONTEXT_GIB = 1.0
"""Of a GPU, for the CUDA context and the libraries: taken, not measured."""


@dataclass(frozen=True)
class WorkerPlan:
    """The training workers of arms that are trained alike."""

    arms: tuple[str, ...]
    memory: TrainingMemory


@dataclass(frozen=True)
class EnginePlan:
    """The engines of a stage."""

    stage: str
    """The section of ``placement``."""
    count: int
    """Engines at a time, at most."""
    memory: EngineMemory


def plan_workers(
    settings: Settings, model: Path, precision: str, arms: list[ArmPlan], lengths: Mapping[str, RowLengths]
) -> list[WorkerPlan]:
    """Estimate the memory of a training worker for each kind of training that arms ask for.

    Args:
        arms: arms whose rows' lengths are known.

    Raises:
        UserError: an adapter names layers that the model does not have.
    """
    from delia_ray.models import resolve_dtype  # noqa: PLC0415  imports torch

    batches: dict[FinetuneConfig, dict[str, MicroBatch]] = {}
    for arm in arms:
        config = settings.resolve_finetune(settings.arms[arm.name])  # pyright: ignore[reportArgumentType]
        alike = config.model_copy(update={"learning_rate": 1.0, "order": "shuffled", "seed": 0})
        batches.setdefault(alike, {})[arm.name] = _find_largest_batch(settings, arm, lengths[arm.name])
    workers, tokens = settings.placement.finetune, 0 if settings.task.token is None else 1
    plans: list[WorkerPlan] = []
    for config, by_arm in batches.items():
        batch = max(by_arm.values(), key=lambda each: (each.tokens, each.supervised))
        is_only = batch.tokens >= _count_worker_rows(settings) * batch.row_tokens
        memory = estimate_training(model, tokens, config, workers, resolve_dtype(precision), batch, is_only=is_only)
        plans.append(WorkerPlan(tuple(by_arm), memory))
    return plans


def check_gpus(settings: Settings, workers: Sequence[WorkerPlan], engines: Sequence[EnginePlan]) -> Iterator[str]:
    """Say what does not fit into ``placement.gpu_memory_gib``.

    Of an engine, the weights and a cache for one sequence have to fit into the share that it takes.
    """
    placement, gib = settings.placement, settings.placement.gpu_memory_gib
    if gib is None:
        return
    for worker in workers if placement.finetune.num_gpus else ():
        if (needed := worker.memory.total / GIB + _CONTEXT_GIB) > gib:
            yield (
                f"placement.finetune: a training worker of {', '.join(worker.arms)} takes {needed:.1f} GiB by the estimate, more than "
                f"placement.gpu_memory_gib={gib:g}; docs/training.md says what saves memory"
            )
    for engine in engines:
        resources = placement.synthesize if engine.stage == "synthesize" else placement.serve
        share = get_memory_share(placement.engine, resources) * gib
        needed = (engine.memory.weights + engine.memory.token * engine.memory.max_model_len) / GIB + _CONTEXT_GIB
        if resources.num_gpus and needed > share:
            yield (
                f"placement.{engine.stage}: an engine takes {needed:.1f} GiB of each GPU with a single sequence, more than its share of "
                f"{share:.1f} of placement.gpu_memory_gib={gib:g}; divide it over more GPUs (placement.{engine.stage}.num_gpus)"
            )


def _find_largest_batch(settings: Settings, arm: ArmPlan, lengths: RowLengths) -> MicroBatch:
    """The micro-batch of most tokens: full of rows of the greatest length, or all rows of a worker's step if those are fewer."""
    parts = {"with_task": arm.task_rows > 0, "with_diverse": arm.diverse_rows > 0}
    row = lengths.longest(**parts)
    tokens = min(max(settings.placement.finetune.micro_batch_tokens, row), _count_worker_rows(settings) * row)
    return MicroBatch(tokens, row, lengths.largest_share(**parts))


def _count_worker_rows(settings: Settings) -> int:
    """Rows of a step that a worker gets at most: with rows of one length, a share rounded up."""
    return -(-settings.finetune.global_batch_size // settings.placement.finetune.least)


def plan_engines(settings: Settings, model: Path, precision: str) -> list[EnginePlan]:
    """Estimate the memory of the engines that generate and that serve."""
    from delia_ray.models import resolve_dtype  # noqa: PLC0415  imports torch
    from delia_ray.models.families import read_max_context_tokens  # noqa: PLC0415

    placement, itemsize = settings.placement, resolve_dtype(precision).itemsize
    is_adapted = placement.serve.prefers_adapters and trains_adapter(settings.finetune.parameters)
    served = 1 if is_adapted else min(placement.serve.models, 1 + sum(arm is not None for arm in settings.arms.values()))
    plans: list[EnginePlan] = []
    if isinstance(settings.synthesize.engine, VllmEngine):
        pool = placement.synthesize
        length = min(placement.engine.max_model_len or settings.synthesize.context_length, read_max_context_tokens(model))
        plans.append(EnginePlan("synthesize", pool.most, estimate_engine(model, placement.engine, itemsize, length, pool)))
    memory = estimate_engine(model, placement.engine, itemsize, settings.max_model_len, placement.serve)
    return [*plans, EnginePlan("serve", served * placement.serve.size, memory)]
