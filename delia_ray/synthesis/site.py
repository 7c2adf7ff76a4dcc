"""Where a stage of synthesis runs, and the steps that both of them share: draw, judge, sort."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import ray.data

from delia_ray.artifacts import Adopted, Counts, Provenance, Workspace
from delia_ray.fingerprint import fingerprint
from delia_ray.models import load_tokenizer
from delia_ray.placement import ActorPool, Engine, Price
from delia_ray.progress import Line
from delia_ray.runtime import Connect
from delia_ray.synthesis.accounting import summary
from delia_ray.synthesis.config import SynthesizeConfig
from delia_ray.synthesis.draws import Drawn, DrawStore
from delia_ray.synthesis.generation import Drawing, Generation, at_once, draw_and_judge
from delia_ray.synthesis.sorting import set_aside

Refuse = Callable[[str, bool, tuple[str, ...]], str | None]
_UNITS = {"query": "queries", "answer": "answers"}


@dataclass(frozen=True)
class Site:
    """Where generation runs and who is told."""

    model: Adopted
    engine: Engine
    pool: ActorPool
    draws: Path
    """Where drawn rows are kept."""
    connect: Connect
    line: Line
    provenance: Provenance
    price: Price | None = None
    """null: nothing is said of cost."""


def source(config: SynthesizeConfig, model: Adopted) -> str:
    """Names what continues the prompts."""
    return fingerprint({"engine": config.engine.model_dump(mode="json"), "model": model.fingerprint})


@lru_cache(maxsize=1)
def tokenizer_of(model: Path) -> Any:
    """Once a process, whatever the number of blocks."""
    return load_tokenizer(model)


def judged(refuse: Refuse, control: tuple[str, ...], drawn: Drawn) -> dict[str, Any]:
    """The row with the reason why it is refused; empty where it is not."""
    reason = f"engine error: {drawn['error'][:200]}" if drawn["error"] else refuse(drawn["text"], drawn["finished"], control)
    return {**drawn, "reason": reason or ""}


def generate_rows(
    config: SynthesizeConfig,
    draws: ray.data.Dataset | Drawing,
    judge: Callable[[Drawn], dict[str, Any]],
    step: Literal["query", "answer"],
    site: Site,
    workspace: Workspace,
    schema: pa.Schema,
    keep: Callable[[Mapping[str, Any]], dict[str, Any]],
) -> Counts:
    """Draw what is missing, judge all of it, and part what is kept from what is not."""
    store = DrawStore(site.draws / source(config, site.model))
    generation = Generation(config.engine, site.model.path, site.engine, site.pool, store, config.error_budget)
    drawing = at_once(draws) if isinstance(draws, ray.data.Dataset) else draws
    rows, effort = draw_and_judge(drawing, judge, generation, site.line, _UNITS[step], workspace.inflight)
    counts = {**set_aside(rows, workspace.data, step, schema, keep), **effort.counts(site.price)}
    site.line.say(summary(counts, _UNITS[step]))
    return counts
