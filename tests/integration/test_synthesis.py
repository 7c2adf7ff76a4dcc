"""The completion cache: no row is generated twice, whatever else changes."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from delia_ray.cli.terminal import StageLine
from delia_ray.core.artifacts import Artifact, Provenance
from delia_ray.core.errors import UserError
from delia_ray.models import adopt_model
from delia_ray.placement import ActorPool, Engine
from delia_ray.synthesis.answers_stage import generate_answers
from delia_ray.synthesis.config import EchoEngine, SynthesizeConfig
from delia_ray.synthesis.context import GenerationContext
from delia_ray.synthesis.generation.cache import CompletionCache
from delia_ray.synthesis.generation.generate import _check_budget  # pyright: ignore[reportPrivateUsage]
from delia_ray.synthesis.queries_stage import generate_queries
from delia_ray.synthesis.query_config import MagpieQueries
from delia_ray.synthesis.requests import RESULT_SCHEMA

pytestmark = pytest.mark.usefixtures("local_ray")
PROVENANCE = Provenance(None, ["pytest"])
BUILT_IN = "builtin:smollm2-135m-instruct"


def context(cache: Path, batch_rows: int = 8) -> GenerationContext:
    return GenerationContext(
        adopt_model(BUILT_IN), Engine(), ActorPool(batch_rows=batch_rows), cache, lambda _=None: None, StageLine("test"), PROVENANCE
    )


def config(rows: int, seed: int = 0) -> SynthesizeConfig:
    return SynthesizeConfig(engine=EchoEngine(kind="echo"), queries=MagpieQueries(rows=rows), seed=seed)


def rows_of(artifact: Artifact) -> list[dict[str, Any]]:
    rows = [row for part in ("kept", "rejects") for row in pq.read_table(artifact.data / part).to_pylist()]
    return sorted(rows, key=lambda row: json.dumps(row, sort_keys=True))


def cost(artifact: Artifact) -> tuple[float, float]:
    return artifact.manifest.counts["generated"], artifact.manifest.counts["cached"]


def test_more_rows_generate_only_the_new_ones(tmp_path: Path) -> None:
    first = generate_queries(config(40), context(tmp_path / "cache"), tmp_path / "a")
    again = generate_queries(config(40), context(tmp_path / "cache", batch_rows=3), tmp_path / "b")
    more = generate_queries(config(44), context(tmp_path / "cache"), tmp_path / "c")
    assert (cost(first), cost(again), cost(more)) == ((40, 0), (0, 40), (4, 40))
    assert rows_of(again) == rows_of(first)
    assert len(rows_of(more)) == 44


def test_another_seed_generates_its_own_rows(tmp_path: Path) -> None:
    generate_queries(config(10), context(tmp_path / "cache"), tmp_path / "a")
    other = generate_queries(config(10, seed=1), context(tmp_path / "cache"), tmp_path / "b")
    assert cost(other) == (10, 0)


def test_answers_of_known_queries_are_not_generated_again(tmp_path: Path) -> None:
    queries = generate_queries(config(20), context(tmp_path / "cache"), tmp_path / "queries")
    answers = generate_answers(config(20), queries, context(tmp_path / "cache"), tmp_path / "answers")
    again = generate_answers(config(20), queries, context(tmp_path / "cache"), tmp_path / "again")
    assert cost(answers) == (queries.manifest.counts["rows"], 0)
    assert cost(again) == (0, queries.manifest.counts["rows"])
    assert rows_of(again) == rows_of(answers)


def test_too_many_engine_errors_stop_the_stage_and_name_the_reasons(tmp_path: Path) -> None:
    import pyarrow as pa  # noqa: PLC0415

    row = {"key": 1, "row_id": "a", "text": "", "finished": False, "prompt_tokens": 0, "answer_tokens": 0, "topic": "", "query": ""}
    rows = [{**row, "key": number, "error": "too long" if number else "lost"} for number in range(3)]
    failed = CompletionCache(tmp_path / "failed")
    failed.add(pa.Table.from_pylist(rows, schema=RESULT_SCHEMA))
    _check_budget(failed, total=15, budget=0.2)
    with pytest.raises(UserError, match=r"failed on 3 of 14 rows.*2 x too long; 1 x lost"):
        _check_budget(failed, total=14, budget=0.2)
