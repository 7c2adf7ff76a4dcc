"""Where a stage of synthesis runs, and the steps that both of them share: draw, judge, sort."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import ray
import ray.data

from delia_ray.artifacts import Counts, Provenance
from delia_ray.fingerprint import fingerprint
from delia_ray.models import ModelFolder
from delia_ray.models.control_tokens import ControlTokens
from delia_ray.placement import ActorPool, Engine, Price
from delia_ray.progress import Line
from delia_ray.runtime import Connect
from delia_ray.synthesis.accounting import Effort, summary
from delia_ray.synthesis.config import SynthesizeConfig
from delia_ray.synthesis.draws import Drawn, DrawStore
from delia_ray.synthesis.generation import Drawing, Generation, at_once, draw_and_judge
from delia_ray.synthesis.sorting import set_aside

Refuse = Callable[[str, bool, ControlTokens], str | None]
_UNITS = {"query": "queries", "answer": "answers"}


@dataclass(frozen=True)
class Site:
    """Where generation runs and who is told."""

    model: ModelFolder
    engine: Engine
    pool: ActorPool
    draws: Path
    """Where drawn rows are kept."""
    connect: Connect
    line: Line
    provenance: Provenance
    price: Price | None = None
    """null: nothing is said of cost."""


def source(config: SynthesizeConfig, model: ModelFolder) -> str:
    """Names what continues the prompts."""
    return fingerprint({"engine": config.engine.model_dump(mode="json"), "model": model.fingerprint})


def judged(refuse: Refuse, control: ControlTokens, drawn: Drawn) -> dict[str, Any]:
    """The row with the reason why it is refused, empty where it is not, and the ``scope`` in which its text may stand once."""
    reason = f"engine error: {drawn['error'][:200]}" if drawn["error"] else refuse(drawn["text"], drawn["finished"], control)
    return {**drawn, "reason": reason or "", "scope": ""}


def draw_rows(
    config: SynthesizeConfig,
    draws: ray.data.Dataset | Drawing,
    judge: Callable[[Drawn], dict[str, Any]],
    step: Literal["query", "answer"],
    site: Site,
    inflight: Path,
) -> tuple[Path, Effort]:
    """Draw what is missing and judge all of it: the folder of judged rows, and the effort it took."""
    store = DrawStore(site.draws / source(config, site.model))
    generation = Generation(config.engine, site.model.path, site.engine, site.pool, store, config.error_budget)
    drawing = at_once(draws) if isinstance(draws, ray.data.Dataset) else draws
    return draw_and_judge(drawing, judge, generation, site.line, _UNITS[step], inflight)


def part_rows(
    drawn: tuple[Path, Effort],
    step: Literal["query", "answer"],
    site: Site,
    out: Path,
    schema: pa.Schema,
    keep: Callable[[Mapping[str, Any]], dict[str, Any]],
) -> Counts:
    """Part what is kept from what is not, of what ``draw_rows`` gave."""
    rows, effort = drawn
    return told({**sorted_out(rows, out, step, schema, keep), **effort.counts(site.price)}, step, site)


def sorted_out(rows: Path, out: Path, step: str, schema: pa.Schema, keep: Callable[[Mapping[str, Any]], dict[str, Any]]) -> dict[str, int]:
    """``set_aside`` in a worker, whose memory may hold the rows' names."""
    return ray.get(ray.remote(set_aside).remote(rows, out, step, schema, keep))


def told(counts: Counts, step: Literal["query", "answer"], site: Site) -> Counts:
    """The counts, after they were said on the terminal."""
    site.line.say(summary(counts, _UNITS[step]))
    return counts
