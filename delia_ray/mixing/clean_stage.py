"""The stage ``clean``: remove duplicates and evaluation texts from a pool of diverse rows."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import ray

from delia_ray.core.artifacts import Adopted, Artifact, Counts, Input, Provenance, Workspace, build_once
from delia_ray.core.records import EXCHANGE_KIND, EXCHANGE_SCHEMA, REJECT_SCHEMA
from delia_ray.core.storage.objects import list_files
from delia_ray.core.storage.tables import count_rows, write_table
from delia_ray.core.text.overlap import OverlapIndex
from delia_ray.embedding.actors import embed_texts
from delia_ray.embedding.encoder import adopt_encoder
from delia_ray.mixing.config import CleanConfig, Deduplicate
from delia_ray.mixing.near_duplicates import Duplicates, find_duplicates, find_semantic_duplicates
from delia_ray.placement import ActorPool, Engine, Placement
from delia_ray.ray_runtime.cluster import Connect
from delia_ray.ray_runtime.metrics import record_rejects
from delia_ray.ray_runtime.tables import read_parquet, write_parquet
from delia_ray.ray_runtime.tasks import get_result
from delia_ray.tasks.contamination import extract_prompt_text, iter_scored_texts
from delia_ray.tasks.stage import read_items

STAGE = "clean/4"
_Transform = Callable[[pa.Table], pa.Table]


@dataclass(frozen=True)
class EmbeddingContext:
    """Encoder, engine and actor pool that embed rows for ``deduplicate.meaning``."""

    encoder: Adopted
    engine: Engine
    pool: ActorPool


def make_embedding_context(config: Deduplicate | None, model: Adopted, placement: Placement) -> EmbeddingContext | None:
    """Make the context that ``config`` needs for semantic deduplication; None where it asks for none.

    Raises:
        UserError: the configured folder holds no encoder.
    """
    if config is None or config.meaning is None:
        return None
    encoder = adopt_encoder(config.meaning.embeddings, model, "deduplicate.meaning.embeddings")
    return None if encoder is None else EmbeddingContext(encoder, placement.engine, placement.synthesize)


def clean_pool(
    config: CleanConfig,
    diverse: Artifact,
    task: Artifact,
    embedding: EmbeddingContext | None,
    connect: Connect,
    out: Path,
    provenance: Provenance,
) -> Artifact:
    """Keep the exchanges of ``diverse`` that overlap with no text of the task and duplicate no other row; write the others to ``rejects``.

    Rows that overlap with the task are removed first, so that no row is rejected as a duplicate of one that is not kept. A task item is
    compared by all turns before its answer except the system turn, and without its instruction, which hundreds of rows may share.
    ``clusters.json`` has the number of clusters of each size.

    Args:
        diverse: the pool.
        task: the task's items in splits.
        embedding: needed where ``config`` asks for semantic deduplication.
        connect: connects to Ray.
    """

    def write(workspace: Workspace) -> Counts:
        connect()
        marked = workspace.inflight / "marked"
        rows = read_parquet(diverse.data / "kept")
        indexes = ray.put(_build_indexes(config, task))
        write_parquet(rows.map_batches(partial(_mark_overlaps, indexes), batch_format="pyarrow"), marked, replaces=True)
        duplicates = list(_find_all_duplicates(marked, config.deduplicate, embedding, workspace.inflight)) if config.deduplicate else []
        sizes = {name: each.sizes for name, each in zip(("words", "meaning"), duplicates, strict=False)}
        (workspace.data / "clusters.json").write_text(json.dumps(sizes, indent=1) + "\n", encoding="utf-8")
        kept = _write_rows(marked, partial(_select_kept, duplicates), EXCHANGE_SCHEMA, workspace.data / "kept")
        rejected = _write_rows(marked, partial(_select_rejects, duplicates), REJECT_SCHEMA, workspace.data / "rejects")
        record_rejects(workspace.data / "rejects")
        return {"rows": kept, "rejected": rejected, "repeats": sum(each.rows for each in duplicates)}

    inputs: dict[str, Input] = {"diverse": diverse, "task": task, **({} if embedding is None else {"encoder": embedding.encoder})}
    return build_once(out, stage=STAGE, kind=EXCHANGE_KIND, request=config, inputs=inputs, provenance=provenance, write=write)


def _build_indexes(config: CleanConfig, task: Artifact) -> list[OverlapIndex]:
    """Build the indexes of the evaluation texts and of the task's training texts, as far as ``config`` asks for them."""
    decontaminate, deduplicate = config.decontaminate, config.deduplicate
    items = read_items(task)
    indexes: list[OverlapIndex] = []
    if decontaminate:
        indexes.append(OverlapIndex(iter_scored_texts(items), similarity=decontaminate.similarity, ngram_words=decontaminate.ngram_words))
    if deduplicate:
        train_texts = ((item["example_id"], extract_prompt_text(item)) for item in items["train"])
        indexes.append(OverlapIndex(train_texts, similarity=deduplicate.similarity))
    return indexes


def _mark_overlaps(indexes: "ray.ObjectRef[list[OverlapIndex]]", rows: pa.Table) -> pa.Table:
    """Add a column ``reason``: the first overlap of query or answer with an indexed text, empty where there is none."""
    known = get_result(indexes)
    pairs = zip(rows["query"].to_pylist(), rows["answer"].to_pylist(), strict=True)
    reasons = [next((reason for text in pair for index in known if (reason := index.find_overlap(text))), "") for pair in pairs]
    return rows.append_column("reason", pa.array(reasons, pa.string()))


def _find_all_duplicates(marked: Path, config: Deduplicate, embedding: EmbeddingContext | None, scratch: Path) -> Iterator[Duplicates]:
    """Yield the near-duplicates by words, then the semantic duplicates among the remaining rows."""
    rows = read_parquet(marked)
    near_duplicates = find_duplicates(
        rows.map_batches(partial(_select_remaining_texts, []), batch_format="pyarrow"), config, scratch / "sketches"
    )
    yield near_duplicates
    if config.meaning is not None:
        assert embedding is not None, "semantic deduplication needs an embedding context"
        texts = rows.map_batches(partial(_select_remaining_texts, [near_duplicates]), batch_format="pyarrow")
        vectors = embed_texts(texts, config.meaning.embeddings, embedding.encoder, embedding.engine, embedding.pool)
        yield find_semantic_duplicates(vectors.drop_columns(["text"]), rows.count(), config.meaning.cosine, scratch / "vectors")


def _select_remaining_texts(duplicates: Sequence[Duplicates], rows: pa.Table) -> pa.Table:
    """Make a table of ``row_id`` and ``text`` of the rows that have no reason to be rejected so far."""
    rows = _add_reasons(duplicates, rows).filter(pc.field("reason") == "")
    texts = [f"{query}\n{answer}" for query, answer in zip(rows["query"].to_pylist(), rows["answer"].to_pylist(), strict=True)]
    return pa.table({"row_id": rows["exchange_id"], "text": pa.array(texts, pa.string())})


def _add_reasons(duplicates: Sequence[Duplicates], rows: pa.Table) -> pa.Table:
    """Fill the column ``reason`` with the first reason to reject each row."""
    reasons: list[str] = rows["reason"].to_pylist()
    for each in duplicates:
        reasons = [first or repeat for first, repeat in zip(reasons, each.find_reasons(rows["exchange_id"].to_pylist()), strict=True)]
    return rows.set_column(rows.schema.get_field_index("reason"), "reason", pa.array(reasons, pa.string()))


def _select_kept(duplicates: Sequence[Duplicates], rows: pa.Table) -> pa.Table:
    return _add_reasons(duplicates, rows).filter(pc.field("reason") == "").select(EXCHANGE_SCHEMA.names).cast(EXCHANGE_SCHEMA)


def _select_rejects(duplicates: Sequence[Duplicates], rows: pa.Table) -> pa.Table:
    rejects = [
        {"row_id": row["exchange_id"], "step": "clean", "reason": row["reason"], "text": f"{row['query']}\n{row['answer']}"}
        for row in _add_reasons(duplicates, rows).filter(pc.field("reason") != "").to_pylist()
    ]
    return pa.Table.from_pylist(rejects, schema=REJECT_SCHEMA)


def _write_rows(marked: Path, transform: _Transform, schema: pa.Schema, out: Path) -> int:
    """Write the transformed rows of ``marked`` to ``out`` and return their number."""
    write_parquet(read_parquet(marked).map_batches(transform, batch_format="pyarrow"), out)
    if not list_files(out, "*.parquet"):  # Ray Data writes no file where there is no row
        write_table(schema.empty_table(), out / "0.parquet")
    return count_rows(out)
