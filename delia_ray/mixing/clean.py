"""The stage ``clean``: the pool without repeats, and without what the finished models will be scored on."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import ray.data

from delia_ray.artifacts import Artifact, Counts, Provenance, Workspace, build_once
from delia_ray.mixing.config import CleanConfig, Deduplicate
from delia_ray.mixing.duplicates import Duplicates, find_duplicates
from delia_ray.overlap import OverlapIndex
from delia_ray.records import EXCHANGE_KIND, EXCHANGE_SCHEMA, REJECT_SCHEMA
from delia_ray.runtime import Connect
from delia_ray.tasks.leaks import asked, scored_texts
from delia_ray.tasks.stage import read_items

STAGE = "clean/2"
_Shape = Callable[[pa.Table], pa.Table]


def clean(config: CleanConfig, diverse: Artifact, task: Artifact, connect: Connect, out: Path, provenance: Provenance) -> Artifact:
    """The exchanges of ``diverse`` that overlap with no text of the task and repeat no other; the rest goes to ``rejects``.

    What overlaps with the task goes first, so that no row is left out for the sake of one that is not kept. An item of the
    task counts without its instruction, which hundreds of rows may share. ``clusters.json`` has the number of clusters of
    each size.
    """

    def write(workspace: Workspace) -> Counts:
        connect()
        marked = workspace.inflight / "marked"
        rows = ray.data.read_parquet(str(diverse.data / "kept"))
        known = ray.put(_indexes(config, task))
        rows.map_batches(partial(_marked, known), batch_format="pyarrow").write_parquet(str(marked), mode=ray.data.SaveMode.OVERWRITE)
        found = _repeats(marked, config.deduplicate, workspace) if config.deduplicate else None
        kept = _write(marked, partial(_kept, found), EXCHANGE_SCHEMA, workspace.data / "kept")
        removed = _write(marked, partial(_removed, found), REJECT_SCHEMA, workspace.data / "rejects")
        return {"rows": kept, "rejected": removed, "repeats": found.rows if found else 0}

    inputs = {"diverse": diverse, "task": task}
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


def _repeats(marked: Path, config: Deduplicate, workspace: Workspace) -> Duplicates:
    rows = ray.data.read_parquet(str(marked)).map_batches(_as_texts, batch_format="pyarrow")
    found = find_duplicates(rows, config, workspace.inflight / "sketches")
    (workspace.data / "clusters.json").write_text(json.dumps(found.sizes, indent=1) + "\n", encoding="utf-8")
    return found


def _as_texts(rows: pa.Table) -> pa.Table:
    rows = rows.filter(pc.field("reason") == "")
    texts = [f"{query}\n{answer}" for query, answer in zip(rows["query"].to_pylist(), rows["answer"].to_pylist(), strict=True)]
    return pa.table({"row_id": rows["exchange_id"], "text": pa.array(texts, pa.string())})


def _judged(found: Duplicates | None, rows: pa.Table) -> pa.Table:
    if found is None:
        return rows
    repeats = found.reasons(rows["exchange_id"].to_pylist())
    reasons = [overlap or repeat for overlap, repeat in zip(rows["reason"].to_pylist(), repeats, strict=True)]
    return rows.set_column(rows.schema.get_field_index("reason"), "reason", pa.array(reasons, pa.string()))


def _kept(found: Duplicates | None, rows: pa.Table) -> pa.Table:
    return _judged(found, rows).filter(pc.field("reason") == "").select(EXCHANGE_SCHEMA.names).cast(EXCHANGE_SCHEMA)


def _removed(found: Duplicates | None, rows: pa.Table) -> pa.Table:
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
