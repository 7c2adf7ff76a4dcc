"""The stage ``clean``: the pool without what the finished models will be scored on."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import ray.data

from delia_ray.artifacts import Artifact, Counts, Provenance, Workspace, build_once
from delia_ray.mixing.config import Decontaminate
from delia_ray.mixing.overlap import EvaluationIndex
from delia_ray.records import EXCHANGE_KIND, EXCHANGE_SCHEMA, REJECT_SCHEMA
from delia_ray.runtime import Connect
from delia_ray.tasks.formatted import ordinary_prompts

STAGE = "clean/1"
_ALL_PROMPTS = 10**6


def clean(config: Decontaminate, diverse: Artifact, task: Artifact, connect: Connect, out: Path, provenance: Provenance) -> Artifact:
    """The exchanges of ``diverse`` that overlap with no dev or test item and no everyday prompt; the others go to ``rejects``.

    An item counts without its instruction, which hundreds of rows may share.
    """

    def write(workspace: Workspace) -> Counts:
        connect()
        index = ray.put(EvaluationIndex(evaluation_texts(task), config))
        marked = workspace.inflight / "marked"
        rows = ray.data.read_parquet(str(diverse.data / "kept"))
        rows.map_batches(partial(_marked, index), batch_format="pyarrow").write_parquet(str(marked), mode=ray.data.SaveMode.OVERWRITE)
        kept = _write(marked, _kept, EXCHANGE_SCHEMA, workspace.data / "kept")
        removed = _write(marked, _removed, REJECT_SCHEMA, workspace.data / "rejects")
        return {"rows": kept, "rejected": removed}

    inputs = {"diverse": diverse, "task": task}
    return build_once(out, stage=STAGE, kind=EXCHANGE_KIND, request=config, inputs=inputs, provenance=provenance, write=write)


def evaluation_texts(task: Artifact) -> Iterator[tuple[str, str]]:
    """Name and text of everything that models are scored on."""
    for split in ("dev", "test"):
        for item in pq.read_table(task.data / f"{split}.parquet").to_pylist():
            asked = item["messages"][-2]["content"]
            yield item["example_id"], asked.replace(item["instruction"], " ") if item["instruction"] else asked
        for prompt in ordinary_prompts(_ALL_PROMPTS, split):
            yield prompt.prompt_id, prompt.messages[-1]["content"]


def _marked(index: "ray.ObjectRef[EvaluationIndex]", rows: pa.Table) -> pa.Table:
    known = ray.get(index)
    pairs = zip(rows["query"].to_pylist(), rows["answer"].to_pylist(), strict=True)
    reasons = [known.overlap(query) or known.overlap(answer) or "" for query, answer in pairs]
    return rows.append_column("reason", pa.array(reasons, pa.string()))


def _kept(rows: pa.Table) -> pa.Table:
    return rows.filter(pc.field("reason") == "").select(EXCHANGE_SCHEMA.names).cast(EXCHANGE_SCHEMA)


def _removed(rows: pa.Table) -> pa.Table:
    rejects = [
        {"row_id": row["exchange_id"], "step": "clean", "reason": row["reason"], "text": f"{row['query']}\n{row['answer']}"}
        for row in rows.filter(pc.field("reason") != "").to_pylist()
    ]
    return pa.Table.from_pylist(rejects, schema=REJECT_SCHEMA)


def _write(marked: Path, shape: Callable[[pa.Table], pa.Table], schema: pa.Schema, out: Path) -> int:
    ray.data.read_parquet(str(marked)).map_batches(shape, batch_format="pyarrow").write_parquet(str(out))
    files = list(out.glob("*.parquet"))
    if not files:  # Ray Data writes no file where there is no row
        out.mkdir(exist_ok=True)
        pq.write_table(schema.empty_table(), out / "0.parquet")
    return sum(pq.read_metadata(file).num_rows for file in files)
