"""The stage ``diversity``: how diverse the pool is, in numbers and on a page. Looking at a pool otherwise never makes it stale."""

import heapq
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import ray
import ray.data

from delia_ray.artifacts import Adopted, Artifact, Counts, Input, Workspace, build_once
from delia_ray.config import Config
from delia_ray.embedding.actors import actors_of, embedded
from delia_ray.records import EXCHANGE_SCHEMA, keyed_int
from delia_ray.runtime import one_core
from delia_ray.synthesis.config import Embeddings, SynthesizeConfig
from delia_ray.synthesis.diversity import COLUMNS, Diversity, describe_texts, describe_topics, with_vectors
from delia_ray.synthesis.site import Site
from delia_ray.synthesis.spread import plane, unit_rows

STAGE = "diversity/2"
DIVERSITY_KIND = "diversity/1"
_POOL_TEXTS = 5_000
MAP_SCHEMA = pa.schema(
    [("exchange_id", pa.string()), ("column", pa.string()), ("topic", pa.string()), ("x", pa.float64()), ("y", pa.float64())]
)

Draw = Callable[[Diversity, pa.Table], str]
"""The page, from what was found and the texts on a plane (``MAP_SCHEMA``)."""


class DiversityRequest(Config):
    """How to look at a pool."""

    embeddings: Embeddings | None
    seed: int


def describe(config: SynthesizeConfig, diverse: Artifact, encoder: Adopted | None, draw: Draw, site: Site, out: Path) -> Artifact:
    """``diversity.json``, ``map.parquet`` and ``index.html`` over a pool of one or more exchanges.

    Raises:
        UserError: the cluster cannot hold the actors that embed.
    """

    def write(workspace: Workspace) -> Counts:
        site.connect()
        found, points = _look(config, diverse, encoder, site)
        (workspace.data / "diversity.json").write_text(found.model_dump_json(indent=1) + "\n", encoding="utf-8")
        pq.write_table(points, workspace.data / "map.parquet")
        (workspace.data / "index.html").write_text(draw(found, points), encoding="utf-8")
        return {"texts": found.queries.texts + found.answers.texts, "embedded": points.num_rows}

    inputs: dict[str, Input] = {"diverse": diverse, **({} if encoder is None else {"encoder": encoder})}
    request = DiversityRequest(embeddings=config.embeddings, seed=config.seed)
    return build_once(out, stage=STAGE, kind=DIVERSITY_KIND, request=request, inputs=inputs, provenance=site.provenance, write=write)


def _look(config: SynthesizeConfig, diverse: Artifact, encoder: Adopted | None, site: Site) -> tuple[Diversity, pa.Table]:
    """Words and vectors at the same time; the driver sees numbers, and the places on the map."""
    chosen = _chosen.remote(diverse.data / "kept", config.seed)
    found = _described.options(**one_core()).remote(chosen, int(diverse.manifest.counts["rows"]), config.seed)
    if config.embeddings is None or encoder is None:
        return ray.get(found), MAP_SCHEMA.empty_table()
    actors = actors_of(site.pool)
    parts: list[Any] = [_texts.remote(chosen, config.embeddings.texts, part, actors) for part in range(actors)]
    vectors = embedded(ray.data.from_arrow_refs(parts), config.embeddings, encoder, site.engine, site.pool)
    return ray.get(_placed.remote(found, config.seed, *vectors.to_arrow_refs()))


@ray.remote(num_cpus=0)
def _chosen(kept: Path, seed: int) -> pa.Table:
    """The pool, or 5,000 exchanges of a larger one, in the order of their keyed hashes."""

    def rows() -> Iterator[dict[str, Any]]:
        for batch in pads.dataset(kept, format="parquet").to_batches():
            yield from batch.to_pylist()

    first = heapq.nsmallest(_POOL_TEXTS, rows(), key=lambda row: keyed_int(seed, "describe", row["exchange_id"]))
    return pa.Table.from_pylist(first, schema=EXCHANGE_SCHEMA)


@ray.remote(num_cpus=1)
def _described(chosen: pa.Table, exchanges: int, seed: int) -> Diversity:
    queries, answers = (
        describe_texts(chosen[name].to_pylist(), chosen[tokens].to_pylist(), seed)
        for name, tokens in (("query", "prompt_tokens"), ("answer", "answer_tokens"))
    )
    return Diversity(exchanges=exchanges, topics=describe_topics(chosen["topic"].to_pylist(), seed), queries=queries, answers=answers)


@ray.remote(num_cpus=0)
def _texts(chosen: pa.Table, texts: int, part: int, parts: int) -> pa.Table:
    """One part of the first ``texts`` queries and answers."""
    mine = chosen.slice(0, texts).take(np.arange(part, min(texts, chosen.num_rows), parts))
    names = {"queries": "query", "answers": "answer"}
    tables = [
        mine.select(["exchange_id", "topic"])
        .append_column("column", pa.array([column] * mine.num_rows))
        .append_column("text", mine[names[column]])
        for column in COLUMNS
    ]
    return pa.concat_tables(tables)


@ray.remote(num_cpus=0)
def _placed(found: Diversity, seed: int, *embedded: pa.Table) -> tuple[Diversity, pa.Table]:
    """What the vectors say, and where they lie on a plane."""
    rows = pa.concat_tables(embedded).sort_by([("column", "ascending"), ("exchange_id", "ascending")])
    maps: list[pa.Table] = []
    for column in COLUMNS:
        mine = rows.filter(pc.field("column") == column)
        vectors_ND = np.stack(mine["vector"].to_numpy())
        found = found.model_copy(update={column: with_vectors(getattr(found, column), vectors_ND, seed)})
        x_N, y_N = plane(unit_rows(vectors_ND))[0].T
        maps.append(mine.select(MAP_SCHEMA.names[:3]).append_column("x", pa.array(x_N)).append_column("y", pa.array(y_N)))
    return found, pa.concat_tables(maps)
