"""The stage ``diversity``: diversity measures of the pool. Measuring it differently never makes a pool stale."""

import heapq
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import ray
import ray.data

from delia_ray.core.artifacts import Adopted, Artifact, Counts, Input, Workspace, build_once
from delia_ray.core.config import Config
from delia_ray.core.records import EXCHANGE_SCHEMA, keyed_int
from delia_ray.core.storage.tables import open_dataset
from delia_ray.embedding.actors import count_actors, embed_texts
from delia_ray.ray_runtime.resources import get_one_core_options
from delia_ray.ray_runtime.tasks import get_result, make_light_task
from delia_ray.synthesis.config import Embeddings, SynthesizeConfig
from delia_ray.synthesis.context import GenerationContext
from delia_ray.synthesis.diversity.embedding import normalize_rows, project_to_plane
from delia_ray.synthesis.diversity.measures import COLUMNS, Diversity, add_vector_measures, measure_texts, measure_topics

STAGE = "diversity/3"
DIVERSITY_KIND = "diversity/2"
_POOL_TEXTS = 5_000
MAP_SCHEMA = pa.schema(
    [("exchange_id", pa.string()), ("column", pa.string()), ("topic", pa.string()), ("x", pa.float64()), ("y", pa.float64())]
)


class DiversityRequest(Config):
    """Request of the stage: how to measure a pool."""

    embeddings: Embeddings | None
    seed: int


def measure_diversity(
    config: SynthesizeConfig, diverse: Artifact, encoder: Adopted | None, context: GenerationContext, out: Path
) -> Artifact:
    """Write ``diversity.json`` and ``map.parquet`` of a pool of one or more exchanges.

    Raises:
        UserError: the cluster cannot hold the actors that embed.
    """

    def write(workspace: Workspace) -> Counts:
        context.connect()
        diversity, points = _measure(config, diverse, encoder, context)
        (workspace.data / "diversity.json").write_text(diversity.model_dump_json(indent=1) + "\n", encoding="utf-8")
        pq.write_table(points, workspace.data / "map.parquet")
        return {"texts": diversity.queries.texts + diversity.answers.texts, "embedded": points.num_rows}

    inputs: dict[str, Input] = {"diverse": diverse, **({} if encoder is None else {"encoder": encoder})}
    request = DiversityRequest(embeddings=config.embeddings, seed=config.seed)
    return build_once(out, stage=STAGE, kind=DIVERSITY_KIND, request=request, inputs=inputs, provenance=context.provenance, write=write)


def _measure(
    config: SynthesizeConfig, diverse: Artifact, encoder: Adopted | None, context: GenerationContext
) -> tuple[Diversity, pa.Table]:
    """Measure words and embed texts in parallel; the driver receives the measures and the coordinates of the map."""
    sample = make_light_task(_sample_exchanges).remote(diverse.data / "kept", config.seed)
    diversity = _measure_words.options(**get_one_core_options()).remote(sample, int(diverse.manifest.counts["rows"]), config.seed)
    if config.embeddings is None or encoder is None:
        return get_result(diversity), MAP_SCHEMA.empty_table()
    actors = count_actors(context.pool)
    parts: list[Any] = [make_light_task(_select_texts).remote(sample, config.embeddings.texts, part, actors) for part in range(actors)]
    vectors = embed_texts(ray.data.from_arrow_refs(parts), config.embeddings, encoder, context.engine, context.pool)
    return get_result(make_light_task(_measure_vectors).remote(diversity, config.seed, *vectors.to_arrow_refs()))


def _sample_exchanges(kept: Path, seed: int) -> pa.Table:
    """Return the pool, or 5,000 exchanges of a larger one, in the order of their keyed hashes."""

    def rows() -> Iterator[dict[str, Any]]:
        for batch in open_dataset(kept).to_batches():
            yield from batch.to_pylist()

    first = heapq.nsmallest(_POOL_TEXTS, rows(), key=lambda row: keyed_int(seed, "describe", row["exchange_id"]))
    return pa.Table.from_pylist(first, schema=EXCHANGE_SCHEMA)


@ray.remote(num_cpus=1)
def _measure_words(sample: pa.Table, exchanges: int, seed: int) -> Diversity:
    queries, answers = (
        measure_texts(sample[name].to_pylist(), sample[tokens].to_pylist(), seed)
        for name, tokens in (("query", "prompt_tokens"), ("answer", "answer_tokens"))
    )
    return Diversity(exchanges=exchanges, topics=measure_topics(sample["topic"].to_pylist(), seed), queries=queries, answers=answers)


def _select_texts(sample: pa.Table, texts: int, part: int, parts: int) -> pa.Table:
    """Return one of ``parts`` parts of the first ``texts`` queries and answers."""
    exchanges = sample.slice(0, texts).take(np.arange(part, min(texts, sample.num_rows), parts))
    names = {"queries": "query", "answers": "answer"}
    tables = [
        exchanges.select(["exchange_id", "topic"])
        .append_column("column", pa.array([column] * exchanges.num_rows))
        .append_column("text", exchanges[names[column]])
        for column in COLUMNS
    ]
    return pa.concat_tables(tables)


def _measure_vectors(diversity: Diversity, seed: int, *embedded: pa.Table) -> tuple[Diversity, pa.Table]:
    """Add the measures of the vectors, and project the vectors to a plane."""
    rows = pa.concat_tables(embedded).sort_by([("column", "ascending"), ("exchange_id", "ascending")])
    maps: list[pa.Table] = []
    for column in COLUMNS:
        texts = rows.filter(pc.field("column") == column)
        vectors_ND = np.stack(texts["vector"].to_numpy())
        diversity = diversity.model_copy(update={column: add_vector_measures(getattr(diversity, column), vectors_ND, seed)})
        x_N, y_N = project_to_plane(normalize_rows(vectors_ND))[0].T
        maps.append(texts.select(MAP_SCHEMA.names[:3]).append_column("x", pa.array(x_N)).append_column("y", pa.array(y_N)))
    return diversity, pa.concat_tables(maps)
