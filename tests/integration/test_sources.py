"""Query sources and answers, on a local cluster with the echo engine."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from delia_ray.cli.terminal import StageLine
from delia_ray.core.artifacts import Artifact, Provenance
from delia_ray.core.errors import UserError
from delia_ray.models import adopt_model
from delia_ray.models.control_tokens import ControlTokens
from delia_ray.placement import ActorPool, Engine
from delia_ray.synthesis.answers_stage import generate_answers
from delia_ray.synthesis.config import SynthesizeConfig
from delia_ray.synthesis.context import GenerationContext
from delia_ray.synthesis.queries_stage import check_queries, generate_queries

pytestmark = pytest.mark.usefixtures("local_ray")
PAIRS = [{"query": f"What is the number {number} called in French?", "reference": f"It is {number}."} for number in range(6)]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def context(folder: Path, batch_rows: int = 8) -> GenerationContext:
    model, pool = adopt_model("builtin:smollm2-135m-instruct"), ActorPool(batch_rows=batch_rows)
    return GenerationContext(model, Engine(), pool, folder / "cache", lambda _=None: None, StageLine("test"), Provenance(None, ["pytest"]))


def config(queries: dict[str, Any], **fields: Any) -> SynthesizeConfig:
    return SynthesizeConfig.model_validate({"engine": {"kind": "echo"}, "queries": queries, **fields})


def pairs(folder: Path, name: str = "pairs") -> dict[str, Any]:
    (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, PAIRS)))
    return {"kind": "file", "path": str(folder / f"{name}.jsonl")}


def rows_of(artifact: Artifact, part: str = "kept") -> list[dict[str, Any]]:
    return sorted(pq.read_table(artifact.data / part).to_pylist(), key=lambda row: json.dumps(row, sort_keys=True))


def test_tasks_grown_from_seeds_are_not_generated_again_and_more_rows_only_add(tmp_path: Path) -> None:
    grown = {"kind": "self_instruct", "first_prompts": 4, "max_rounds": 3}
    first = generate_queries(config({**grown, "rows": 5}), context(tmp_path), tmp_path / "a")
    again = generate_queries(config({**grown, "rows": 5}), context(tmp_path, batch_rows=1), tmp_path / "b")
    more = generate_queries(config({**grown, "rows": 8}), context(tmp_path), tmp_path / "c")
    assert rows_of(first) == rows_of(again) and len(rows_of(first)) == 5
    assert again.manifest.counts["generated"] == 0 and again.manifest.counts["cached"] == first.manifest.counts["generated"]
    assert [row in rows_of(more) for row in rows_of(first)] == [True] * 5
    assert {row["reason"] for row in rows_of(more, "rejects")} <= {"similar", "not about text"}


def test_growth_that_ends_early_says_how_far_it_came(tmp_path: Path) -> None:
    few = generate_queries(
        config({"kind": "self_instruct", "first_prompts": 1, "max_rounds": 1, "rows": 50}), context(tmp_path), tmp_path / "few"
    )
    assert (few.manifest.counts["rounds"], few.manifest.counts["rows"]) == (1, len(rows_of(few))) and len(rows_of(few)) <= 1


def test_a_blend_is_split_by_weight_nested_and_names_its_sources(tmp_path: Path) -> None:
    parts = [{"weight": 2, "kind": "magpie", "rows": 20}, {**pairs(tmp_path), "label": "pairs"}]
    small = generate_queries(config({"kind": "blend", "sources": parts, "rows": 9}), context(tmp_path), tmp_path / "small")
    large = generate_queries(config({"kind": "blend", "sources": parts, "rows": 15}), context(tmp_path), tmp_path / "large")
    sources = [row["query_id"].partition(":")[0] for row in rows_of(small)]
    assert (sources.count("magpie"), sources.count("pairs")) == (6, 3)
    assert all(row in rows_of(large) for row in rows_of(small)) and len(rows_of(large)) == 15
    assert large.manifest.counts["generated"] == 0
    assert set(small.manifest.inputs) == {"model", "pairs.file"}


def test_a_source_that_is_too_small_for_its_weight_says_how_many_rows_are_missing(tmp_path: Path) -> None:
    blend = {"kind": "blend", "sources": [pairs(tmp_path), {"kind": "magpie", "rows": 20}], "rows": 20}
    with pytest.raises(UserError, match=r"sources\[0\]: gives 6 queries.*asks for 10 of 20 rows: 4 are missing"):
        generate_queries(config(blend), context(tmp_path), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_foreign_answers_are_the_references_and_nothing_is_generated(tmp_path: Path) -> None:
    settings = config({**pairs(tmp_path)}, mode="foreign", engine={"kind": "openai", "url": "http://127.0.0.1:9/v1", "model": "none"})
    with (tmp_path / "pairs.jsonl").open("a") as file:
        file.write('\n{"query": "And this one?"}')
    answers = generate_answers(
        settings, generate_queries(settings, context(tmp_path), tmp_path / "queries"), context(tmp_path), tmp_path / "answers"
    )
    assert sorted((row["query"], row["answer"]) for row in rows_of(answers)) == [(row["query"], row["reference"]) for row in PAIRS]
    assert [(row["reason"]) for row in rows_of(answers, "rejects")] == ["no reference"]
    assert not (tmp_path / "cache").exists()


def test_several_answers_to_a_query_are_different_rows_and_the_first_is_cached(tmp_path: Path) -> None:
    queries = generate_queries(config(pairs(tmp_path)), context(tmp_path), tmp_path / "queries")
    one = generate_answers(config(pairs(tmp_path)), queries, context(tmp_path), tmp_path / "one")
    three = generate_answers(config(pairs(tmp_path), draws_per_query=3), queries, context(tmp_path), tmp_path / "three")
    assert (three.manifest.counts["generated"], three.manifest.counts["cached"]) == (12, 6)
    assert len({row["exchange_id"] for row in rows_of(three)}) == 18
    assert all(row in rows_of(three) for row in rows_of(one))


def test_an_answer_out_of_form_is_rejected_and_equal_answers_in_form_are_kept(tmp_path: Path) -> None:
    form = {"kind": "regex", "pattern": "[0-9]+ .*"}
    queries = generate_queries(config(pairs(tmp_path)), context(tmp_path), tmp_path / "queries")
    fits = generate_answers(config(pairs(tmp_path), structured=form), queries, context(tmp_path), tmp_path / "fits")
    out = generate_answers(
        config(pairs(tmp_path), structured={"kind": "choice", "options": ["yes"]}), queries, context(tmp_path), tmp_path / "out"
    )
    assert fits.manifest.counts["rows"] == 6
    assert [row["reason"] for row in rows_of(out, "rejects")] == ["out of form"] * 6
    same = [{**row, "reference": "yes"} for row in PAIRS]
    (tmp_path / "same.jsonl").write_text("\n".join(map(json.dumps, same)))
    settings = config({"kind": "file", "path": tmp_path / "same.jsonl"}, mode="foreign", structured={"kind": "choice", "options": ["yes"]})
    kept = generate_answers(
        settings, generate_queries(settings, context(tmp_path), tmp_path / "same"), context(tmp_path), tmp_path / "kept"
    )
    assert [row["answer"] for row in rows_of(kept)] == ["yes"] * 6


def test_a_folder_that_datasets_saved_is_read(tmp_path: Path) -> None:
    named = [{"instruction": row["query"], "output": row["reference"]} for row in PAIRS]
    datasets.DatasetDict({"train": datasets.Dataset.from_list(named)}).save_to_disk(tmp_path / "saved")
    columns = {"query": "instruction", "reference": "output"}
    queries = generate_queries(
        config({"kind": "file", "path": tmp_path / "saved/train", "columns": columns}), context(tmp_path), tmp_path / "out"
    )
    assert sorted((row["query"], row["reference"]) for row in rows_of(queries)) == [(row["query"], row["reference"]) for row in PAIRS]
    with pytest.raises(UserError, match="holds the splits train"):
        check_queries(config({"kind": "file", "path": tmp_path / "saved"}), ControlTokens(()))


def fill_cache(home: Path) -> None:
    """What ``huggingface_hub`` leaves behind when it has downloaded a data set."""
    repository = home / "hub" / "datasets--owner--pairs"
    snapshot = repository / "snapshots" / COMMIT / "data"
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    pq.write_table(pa.Table.from_pylist(PAIRS), snapshot / "train-00000-of-00001.parquet")
    pq.write_table(pa.Table.from_pylist(PAIRS[:1]), snapshot / "test-00000-of-00001.parquet")


PROBE = """
import sys
from delia_ray.core.errors import UserError
from delia_ray.synthesis.query_config import HubQueries
from delia_ray.synthesis.sources.user_files import download_hub_rows
try:
    rows, files = download_hub_rows(HubQueries.model_validate_json(sys.argv[1]), "synthesize.queries")
    print(files.fingerprint, *(file.name for file in rows.files))
except UserError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("hub", "environment", "shown"),
    [
        ({"name": "owner/pairs"}, {"HF_HUB_OFFLINE": "1"}, f"{COMMIT} train-00000-of-00001.parquet"),
        ({"name": "owner/pairs", "revision": COMMIT, "split": "test"}, {"HF_HUB_OFFLINE": "1"}, f"{COMMIT} test-00000-of-00001.parquet"),
        ({"name": "owner/pairs"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}, f"{COMMIT} train-00000-of-00001.parquet"),
        (
            {"name": "owner/pairs", "split": "dev"},
            {"HF_HUB_OFFLINE": "1"},
            "synthesize.queries.split: no file of owner/pairs is of the split",
        ),
        (
            {"name": "owner/pairs", "files": "x/*"},
            {"HF_HUB_OFFLINE": "1"},
            "synthesize.queries.files: no file of owner/pairs matches 'x/*'",
        ),
        ({"name": "owner/none"}, {"HF_HUB_OFFLINE": "1"}, "synthesize.queries.name: owner/none cannot be had from the hub"),
        ({"name": "owner/none"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}, "synthesize.queries.name: owner/none cannot be had from the hub"),
    ],
)
def test_a_data_set_of_the_hub_is_known_by_its_commit(tmp_path: Path, hub: dict[str, Any], environment: dict[str, str], shown: str) -> None:
    fill_cache(tmp_path)
    command = [sys.executable, "-c", PROBE, json.dumps({"kind": "hub", **hub})]
    offline = {name: value for name, value in os.environ.items() if not name.startswith("HF_")} | environment
    done = subprocess.run(command, env={**offline, "HF_HOME": str(tmp_path)}, capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.startswith(shown) and done.stdout.count("\n") == 1
