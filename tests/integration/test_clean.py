"""The clean stage: duplicates and evaluation texts are removed from the pool."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from delia_ray.core.artifacts import Artifact, Counts, Provenance, Workspace, build_once
from delia_ray.core.config import Config
from delia_ray.core.records import EXCHANGE_KIND, EXCHANGE_SCHEMA
from delia_ray.mixing.clean_stage import clean_pool, make_embedding_context
from delia_ray.mixing.config import CleanConfig, Decontaminate, Deduplicate, SemanticDedup
from delia_ray.models import adopt_model
from delia_ray.placement import Engine, Placement
from delia_ray.tasks.config import FormatTask
from delia_ray.tasks.contamination import extract_prompt_text, iter_scored_texts
from delia_ray.tasks.stage import prepare_task, read_items

pytestmark = pytest.mark.usefixtures("local_ray")
PROVENANCE = Provenance(None, ["pytest"])


class PoolRequest(Config):
    rows: int


def make_pool(out: Path, queries: list[str], files: int = 1) -> Artifact:
    def write(workspace: Workspace) -> Counts:
        rows = [
            {"exchange_id": f"row-{n}", "topic": "t", "query": query, "answer": "So.", "prompt_tokens": 1, "answer_tokens": 1}
            for n, query in enumerate(queries)
        ]
        (workspace.data / "kept").mkdir()
        for file in range(files):
            pq.write_table(pa.Table.from_pylist(rows[file::files], schema=EXCHANGE_SCHEMA), workspace.data / "kept" / f"{file}.parquet")
        return {"rows": len(rows)}

    return build_once(
        out, stage="given/1", kind=EXCHANGE_KIND, request=PoolRequest(rows=len(queries)), inputs={}, provenance=PROVENANCE, write=write
    )


def test_rows_that_hold_an_evaluation_text_are_left_out_and_listed_with_what_they_matched(tmp_path: Path) -> None:
    task = prepare_task(FormatTask(train=4, dev=4, test=8), None, tmp_path / "task", PROVENANCE)
    texts = dict(iter_scored_texts(read_items(task)))
    items = pq.read_table(task.data / "test.parquet").to_pylist()
    everyday = next(name for name in texts if name not in {item["example_id"] for item in items})
    queries = ["How do bees find their way home?", texts[items[0]["example_id"]], texts[everyday]]
    cleaned = clean_pool(
        CleanConfig(), make_pool(tmp_path / "pool", queries), task, None, lambda _=None: None, tmp_path / "clean", PROVENANCE
    )
    assert cleaned.manifest.counts == {"rows": 1, "rejected": 2, "repeats": 0}
    assert pq.read_table(cleaned.data / "kept")["query"].to_pylist() == queries[:1]
    rejects = {row["row_id"]: row["reason"] for row in pq.read_table(cleaned.data / "rejects").to_pylist()}
    assert items[0]["example_id"] in rejects["row-1"] and everyday in rejects["row-2"]


def test_a_clean_pool_stays_whole(tmp_path: Path) -> None:
    task = prepare_task(FormatTask(train=4, dev=4, test=8), None, tmp_path / "task", PROVENANCE)
    queries = [f"What can one build out of {n} bricks and a rope?" for n in range(30)]
    cleaned = clean_pool(
        CleanConfig(), make_pool(tmp_path / "pool", queries), task, None, lambda _=None: None, tmp_path / "clean", PROVENANCE
    )
    assert cleaned.manifest.counts == {"rows": 30, "rejected": 0, "repeats": 0}
    assert pq.read_table(cleaned.data / "rejects").num_rows == 0


def test_of_near_duplicates_one_stays_whichever_files_they_are_in(tmp_path: Path) -> None:
    task = prepare_task(FormatTask(train=4, dev=4, test=8), None, tmp_path / "task", PROVENANCE)
    topics = ["rivers", "salt", "glass", "bread", "wool", "clocks"]
    plain = [
        f"Who first wrote about {topic} in {place}, and what did people there believe about it before?"
        for topic in topics
        for place in ("Peru", "Mali")
    ]
    queries = [*plain, *(text.upper() for text in plain[:3]), *(f"{text} Please." for text in plain[:2])]
    cleaned = {
        files: clean_pool(
            CleanConfig(),
            make_pool(tmp_path / f"pool-{files}", queries, files),
            task,
            None,
            lambda _=None: None,
            tmp_path / f"{files}",
            PROVENANCE,
        )
        for files in (1, 5)
    }
    assert cleaned[1].manifest.counts == {"rows": len(plain), "rejected": 5, "repeats": 5}
    assert json.loads((cleaned[1].data / "clusters.json").read_text()) == {"words": {"2": 1, "3": 2}}
    one, five = (sorted(pq.read_table(each.data / "rejects").to_pylist(), key=lambda row: row["row_id"]) for each in cleaned.values())
    assert one == five
    kept = set(pq.read_table(cleaned[1].data / "kept")["exchange_id"].to_pylist())
    assert all(row["reason"].removeprefix("near-duplicate of ") in kept for row in one)


def test_a_row_like_one_of_the_tasks_training_rows_is_left_out_unless_both_are_switched_off(tmp_path: Path) -> None:
    task = prepare_task(FormatTask(train=4, dev=4, test=8), None, tmp_path / "task", PROVENANCE)
    item = read_items(task)["train"][0]
    name, text = item["example_id"], extract_prompt_text(item)
    diverse = make_pool(tmp_path / "pool", [text, "How do bees find their way home?"])
    cleaned = clean_pool(CleanConfig(decontaminate=None), diverse, task, None, lambda _=None: None, tmp_path / "clean", PROVENANCE)
    assert name in pq.read_table(cleaned.data / "rejects")["reason"][0].as_py()
    loose = CleanConfig(decontaminate=Decontaminate(), deduplicate=None)
    assert clean_pool(loose, diverse, task, None, lambda _=None: None, tmp_path / "loose", PROVENANCE).manifest.counts["rows"] == 2


def test_rows_that_say_the_same_in_another_order_are_removed_by_semantic_dedup(tmp_path: Path, tiny_models: dict[str, Artifact]) -> None:
    task = prepare_task(FormatTask(train=4, dev=4, test=8), None, tmp_path / "task", PROVENANCE)
    plain = ["Rivers run down to the cold sea.", "Who made seven clocks out of salt?", "Bread keeps longer under thick blue wool."]
    turned = [" ".join([*words[:2], words[3], words[2], *words[4:]]) for words in map(str.split, plain)]
    diverse = make_pool(tmp_path / "pool", [*plain, *turned], files=2)
    config = CleanConfig(deduplicate=Deduplicate(meaning=SemanticDedup(cosine=0.9)))
    placement = Placement(engine=Engine(dtype="float32"))
    embedding = make_embedding_context(config.deduplicate, adopt_model(str(tiny_models["one"].data)), placement)
    cleaned = clean_pool(config, diverse, task, embedding, lambda _=None: None, tmp_path / "clean", PROVENANCE)
    assert json.loads((cleaned.data / "clusters.json").read_text()) == {"words": {}, "meaning": {"2": 3}}
    rejects = {row["row_id"]: row["reason"] for row in pq.read_table(cleaned.data / "rejects").to_pylist()}
    kept = set(pq.read_table(cleaned.data / "kept")["exchange_id"].to_pylist())
    assert len(kept) == 3 and set(cleaned.manifest.inputs) == {"diverse", "task", "encoder"}
    for row, reason in rejects.items():
        other = reason.removeprefix("says the same as ")
        assert other in kept and abs(int(row.removeprefix("row-")) - int(other.removeprefix("row-"))) == 3


def test_semantic_dedup_of_an_empty_pool_finds_nothing(tmp_path: Path, tiny_models: dict[str, Artifact]) -> None:
    task = prepare_task(FormatTask(train=4, dev=4, test=8), None, tmp_path / "task", PROVENANCE)
    diverse = make_pool(tmp_path / "pool", [text for _, text in iter_scored_texts(read_items(task))][:2], files=2)
    config = CleanConfig(deduplicate=Deduplicate(meaning=SemanticDedup()))
    embedding = make_embedding_context(
        config.deduplicate, adopt_model(str(tiny_models["one"].data)), Placement(engine=Engine(dtype="float32"))
    )
    cleaned = clean_pool(config, diverse, task, embedding, lambda _=None: None, tmp_path / "clean", PROVENANCE)
    assert cleaned.manifest.counts == {"rows": 0, "rejected": 2, "repeats": 0}
