"""The stage ``clean``: the pool without repeats, and without what the finished models will be scored on."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import ray.data

from delia_ray.artifacts import Adopted, Artifact, Counts, Input, Provenance, Workspace, build_once
from delia_ray.embedding.actors import embedded
from delia_ray.embedding.encoder import adopt_encoder
from delia_ray.mixing.config import CleanConfig, Deduplicate
from delia_ray.mixing.duplicates import Duplicates, find_duplicates, find_paraphrases
from delia_ray.overlap import OverlapIndex
from delia_ray.placement import ActorPool, Engine, Placement
from delia_ray.records import EXCHANGE_KIND, EXCHANGE_SCHEMA, REJECT_SCHEMA
from delia_ray.runtime import Connect
from delia_ray.tasks.leaks import asked, scored_texts
from delia_ray.tasks.stage import read_items

STAGE = "clean/4"
_Shape = Callable[[pa.Table], pa.Table]


@dataclass(frozen=True)
class Embedding:
    """Where rows become vectors, for ``deduplicate.meaning``."""

    encoder: Adopted
    engine: Engine
    pool: ActorPool


def embedding_for(config: Deduplicate | None, model: Adopted, placement: Placement) -> Embedding | None:
    """What ``config`` needs to compare meanings; null where it does not.

    Raises:
        UserError: the configured folder holds no encoder.
    """
    if config is None or config.meaning is None:
        return None
    encoder = adopt_encoder(config.meaning.embeddings, model, "deduplicate.meaning.embeddings")
    return None if encoder is None else Embedding(encoder, placement.engine, placement.synthesize)


def clean(
    config: CleanConfig,
    diverse: Artifact,
    task: Artifact,
    embedding: Embedding | None,
    connect: Connect,
    out: Path,
    provenance: Provenance,
) -> Artifact:
    """The exchanges of ``diverse`` that overlap with no text of the task and repeat no other; the rest goes to ``rejects``.

    What overlaps with the task goes first, so that no row is left out for the sake of one that is not kept. An item of the
    task counts with all turns before its answer but the system's, and without its instruction, which hundreds of rows may share.
    ``clusters.json`` has the number of clusters of each size.

    Args:
        embedding: needed where ``config`` asks for meaning.
    """

    def write(workspace: Workspace) -> Counts:
        connect()
        marked = workspace.inflight / "marked"
        rows = ray.data.read_parquet(str(diverse.data / "kept"))
        known = ray.put(_indexes(config, task))
        rows.map_batches(partial(_marked, known), batch_format="pyarrow").write_parquet(str(marked), mode=ray.data.SaveMode.OVERWRITE)
        found = list(_repeats(marked, config.deduplicate, embedding, workspace.inflight)) if config.deduplicate else []
        sizes = {name: each.sizes for name, each in zip(("words", "meaning"), found, strict=False)}
        (workspace.data / "clusters.json").write_text(json.dumps(sizes, indent=1) + "\n", encoding="utf-8")
        kept = _write(marked, partial(_kept, found), EXCHANGE_SCHEMA, workspace.data / "kept")
        removed = _write(marked, partial(_removed, found), REJECT_SCHEMA, workspace.data / "rejects")
        return {"rows": kept, "rejected": removed, "repeats": sum(each.rows for each in found)}

    inputs: dict[str, Input] = {"diverse": diverse, "task": task, **({} if embedding is None else {"encoder": embedding.encoder})}
    return build_once(out, stage=STAGE, kind=EXCHANGE_KIND, request=config, inputs=inputs, provenance=provenance, write=write)


def _indexes(config: CleanConfig, task: Artifact) -> list[OverlapIndex]:
    scored, repeated = config.decontaminate, config.deduplicate
    items = read_items(task)
    indexes: list[OverlapIndex] = []
    if scored:
        indexes.append(OverlapIndex(scored_texts(items), similarity=scored.similarity, ngram_words=scored.ngram_words))
    if repeated:
        taught = ((item["example_id"], asked(item)) for item in items["train"])
        indexes.append(OverlapIndex(taught, similarity=repeated.similarity))
    return indexes


def _marked(indexes: "ray.ObjectRef[list[OverlapIndex]]", rows: pa.Table) -> pa.Table:
    known = ray.get(indexes)
    pairs = zip(rows["query"].to_pylist(), rows["answer"].to_pylist(), strict=True)
    reasons = [next((found for text in pair for index in known if (found := index.overlap(text))), "") for pair in pairs]
    return rows.append_column("reason", pa.array(reasons, pa.string()))


def _repeats(marked: Path, config: Deduplicate, embedding: Embedding | None, scratch: Path) -> Iterator[Duplicates]:
    """Of words, then of meaning among what is left."""
    rows = ray.data.read_parquet(str(marked))
    words = find_duplicates(rows.map_batches(partial(_texts_left, []), batch_format="pyarrow"), config, scratch / "sketches")
    yield words
    if config.meaning is not None:
        assert embedding is not None, "whoever asks for meaning says what embeds"
        texts = rows.map_batches(partial(_texts_left, [words]), batch_format="pyarrow")
        vectors = embedded(texts, config.meaning.embeddings, embedding.encoder, embedding.engine, embedding.pool)
        yield find_paraphrases(vectors.drop_columns(["text"]), rows.count(), config.meaning.cosine, scratch / "vectors")


def _texts_left(found: Sequence[Duplicates], rows: pa.Table) -> pa.Table:
    rows = _judged(found, rows).filter(pc.field("reason") == "")
    texts = [f"{query}\n{answer}" for query, answer in zip(rows["query"].to_pylist(), rows["answer"].to_pylist(), strict=True)]
    return pa.table({"row_id": rows["exchange_id"], "text": pa.array(texts, pa.string())})


def _judged(found: Sequence[Duplicates], rows: pa.Table) -> pa.Table:
    """With the first reason to leave each row out."""
    reasons: list[str] = rows["reason"].to_pylist()
    for each in found:
        reasons = [before or repeat for before, repeat in zip(reasons, each.reasons(rows["exchange_id"].to_pylist()), strict=True)]
    return rows.set_column(rows.schema.get_field_index("reason"), "reason", pa.array(reasons, pa.string()))


def _kept(found: Sequence[Duplicates], rows: pa.Table) -> pa.Table:
    return _judged(found, rows).filter(pc.field("reason") == "").select(EXCHANGE_SCHEMA.names).cast(EXCHANGE_SCHEMA)


def _removed(found: Sequence[Duplicates], rows: pa.Table) -> pa.Table:
    rejects = [
        {"row_id": row["exchange_id"], "step": "clean", "reason": row["reason"], "text": f"{row['query']}\n{row['answer']}"}
        for row in _judged(found, rows).filter(pc.field("reason") != "").to_pylist()
    ]
    return pa.Table.from_pylist(rejects, schema=REJECT_SCHEMA)


def _write(marked: Path, shape: _Shape, schema: pa.Schema, out: Path) -> int:
    ray.data.read_parquet(str(marked)).map_batches(shape, batch_format="pyarrow").write_parquet(str(out))
    files = list(out.glob("*.parquet"))
    if not files:  # Ray Data writes no file where there is no row
        out.mkdir(exist_ok=True)
        pq.write_table(schema.empty_table(), out / "0.parquet")
    return sum(pq.read_metadata(file).num_rows for file in files)
