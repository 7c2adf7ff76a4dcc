"""The context in which synthesis stages generate, and the steps that they share: generate, filter, split, report."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import ray
import ray.data

from delia_ray.core.artifacts import Counts, Provenance
from delia_ray.core.fingerprint import fingerprint
from delia_ray.core.progress import ProgressLine
from delia_ray.models import ModelFolder
from delia_ray.models.control_tokens import ControlTokens
from delia_ray.placement import ActorPool, Engine, Price
from delia_ray.ray_runtime.cluster import Connect
from delia_ray.ray_runtime.tasks import get_result
from delia_ray.synthesis.config import SynthesizeConfig
from delia_ray.synthesis.filtering.dedup import split_rows
from delia_ray.synthesis.generation.cache import CompletionCache
from delia_ray.synthesis.generation.generate import GenerationSetup, Strategy, generate_and_filter, static_requests
from delia_ray.synthesis.requests import GenerationResult
from delia_ray.synthesis.usage import GenerationCost, summarize_counts

TextFilter = Callable[[str, bool, ControlTokens], str | None]
"""From a text, whether the model ended it, and the control tokens to the reason for rejection, or None."""
_UNITS = {"query": "queries", "answer": "answers"}


@dataclass(frozen=True)
class GenerationContext:
    """Where generation runs and where its progress is shown."""

    model: ModelFolder
    engine: Engine
    pool: ActorPool
    cache: Path
    """Folder of cached completions."""
    connect: Connect
    line: ProgressLine
    provenance: Provenance
    price: Price | None = None
    """None: no cost is reported."""


def fingerprint_generator(config: SynthesizeConfig, model: ModelFolder) -> str:
    """Fingerprint the engine and model that complete the prompts."""
    return fingerprint({"engine": config.engine.model_dump(mode="json"), "model": model.fingerprint})


def apply_filter(text_filter: TextFilter, control: ControlTokens, result: GenerationResult) -> dict[str, Any]:
    """Return the row with its ``reason`` for rejection, empty if it passes, and the ``scope`` in which its text must be unique."""
    reason = f"engine error: {result['error'][:200]}" if result["error"] else text_filter(result["text"], result["finished"], control)
    return {**result, "reason": reason or "", "scope": ""}


def generate_rows(
    config: SynthesizeConfig,
    requests: ray.data.Dataset | Strategy,
    row_filter: Callable[[GenerationResult], dict[str, Any]],
    step: Literal["query", "answer"],
    context: GenerationContext,
    inflight: Path,
) -> tuple[Path, GenerationCost]:
    """Generate the rows that are not cached and filter all rows; return the folder of filtered rows and the cost."""
    cache = CompletionCache(context.cache / fingerprint_generator(config, context.model))
    engine = context.engine.model_copy(update={"max_model_len": context.engine.max_model_len or config.context_length})
    setup = GenerationSetup(config.engine, context.model.path, engine, context.pool, cache, config.error_budget, context.connect)
    strategy = static_requests(requests) if isinstance(requests, ray.data.Dataset) else requests
    return generate_and_filter(strategy, row_filter, setup, context.line, _UNITS[step], inflight)


def split_kept_and_rejected(
    filtered: Path,
    cost: GenerationCost,
    step: Literal["query", "answer"],
    context: GenerationContext,
    out: Path,
    schema: pa.Schema,
    to_record: Callable[[Mapping[str, Any]], dict[str, Any]],
) -> Counts:
    """Split the filtered rows of ``generate_rows`` into kept and rejected ones, and report the counts."""
    counts = split_rows_in_worker(filtered, out, step, schema, to_record)
    return report_counts({**counts, **cost.to_counts(context.price)}, step, context)


def split_rows_in_worker(
    filtered: Path, out: Path, step: str, schema: pa.Schema, to_record: Callable[[Mapping[str, Any]], dict[str, Any]]
) -> dict[str, int]:
    """Run ``split_rows`` in a worker, so that the driver does not hold the ids of all rows."""
    return get_result(ray.remote(split_rows).remote(filtered, out, step, schema, to_record))


def report_counts(counts: Counts, step: Literal["query", "answer"], context: GenerationContext) -> Counts:
    """Show the counts on the terminal and return them."""
    context.line.set_status(summarize_counts(counts, _UNITS[step]))
    return counts
