"""The pool is cleared of what the models will be scored on."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from delia_ray.artifacts import Artifact, Counts, Provenance, Workspace, build_once
from delia_ray.config import Config
from delia_ray.mixing.clean import clean, evaluation_texts
from delia_ray.mixing.config import Decontaminate
from delia_ray.records import EXCHANGE_KIND, EXCHANGE_SCHEMA
from delia_ray.tasks.config import FormatTask
from delia_ray.tasks.stage import prepare_task

pytestmark = pytest.mark.usefixtures("local_ray")
PROVENANCE = Provenance(None, ["pytest"])


class Given(Config):
    rows: int


def pool(out: Path, queries: list[str]) -> Artifact:
    def write(workspace: Workspace) -> Counts:
        rows = [
            {"exchange_id": f"row-{n}", "topic": "t", "query": query, "answer": "So.", "prompt_tokens": 1, "answer_tokens": 1}
            for n, query in enumerate(queries)
        ]
        (workspace.data / "kept").mkdir()
        pq.write_table(pa.Table.from_pylist(rows, schema=EXCHANGE_SCHEMA), workspace.data / "kept" / "0.parquet")
        return {"rows": len(rows)}

    return build_once(
        out, stage="given/1", kind=EXCHANGE_KIND, request=Given(rows=len(queries)), inputs={}, provenance=PROVENANCE, write=write
    )


def test_rows_that_hold_an_evaluation_text_are_left_out_and_listed_with_what_they_matched(tmp_path: Path) -> None:
    task = prepare_task(FormatTask(train=4, dev=4, test=8), tmp_path / "task", PROVENANCE)
    known = dict(evaluation_texts(task))
    items = pq.read_table(task.data / "test.parquet").to_pylist()
    everyday = next(name for name in known if name not in {item["example_id"] for item in items})
    queries = ["How do bees find their way home?", known[items[0]["example_id"]], known[everyday]]
    found = clean(Decontaminate(), pool(tmp_path / "pool", queries), task, lambda: None, tmp_path / "clean", PROVENANCE)
    assert found.manifest.counts == {"rows": 1, "rejected": 2}
    assert pq.read_table(found.data / "kept")["query"].to_pylist() == queries[:1]
    rejects = {row["row_id"]: row["reason"] for row in pq.read_table(found.data / "rejects").to_pylist()}
    assert items[0]["example_id"] in rejects["row-1"] and everyday in rejects["row-2"]


def test_a_clean_pool_stays_whole(tmp_path: Path) -> None:
    task = prepare_task(FormatTask(train=4, dev=4, test=8), tmp_path / "task", PROVENANCE)
    queries = [f"What can one build out of {n} bricks and a rope?" for n in range(30)]
    found = clean(Decontaminate(), pool(tmp_path / "pool", queries), task, lambda: None, tmp_path / "clean", PROVENANCE)
    assert found.manifest.counts == {"rows": 30, "rejected": 0}
    assert pq.read_table(found.data / "rejects").num_rows == 0
