"""Drawing rows once: what is drawn stays drawn, whatever else changes."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from delia_ray.artifacts import Artifact, Provenance
from delia_ray.errors import UserError
from delia_ray.models import adopt_model
from delia_ray.placement import ActorPool, Engine
from delia_ray.synthesis.answering import answer
from delia_ray.synthesis.asking import ask
from delia_ray.synthesis.config import EchoEngine, SynthesizeConfig
from delia_ray.synthesis.draws import DRAWN_SCHEMA, DrawStore
from delia_ray.synthesis.generation import _check_budget  # pyright: ignore[reportPrivateUsage]
from delia_ray.synthesis.query_config import MagpieQueries
from delia_ray.synthesis.site import Site
from delia_ray.terminal import StageLine

pytestmark = pytest.mark.usefixtures("local_ray")
PROVENANCE = Provenance(None, ["pytest"])
BUILT_IN = "builtin:smollm2-135m-instruct"


def site(draws: Path, batch_rows: int = 8) -> Site:
    return Site(adopt_model(BUILT_IN), Engine(), ActorPool(batch_rows=batch_rows), draws, lambda: None, StageLine("test"), PROVENANCE)


def config(rows: int, seed: int = 0) -> SynthesizeConfig:
    return SynthesizeConfig(engine=EchoEngine(kind="echo"), queries=MagpieQueries(rows=rows), seed=seed)


def rows_of(artifact: Artifact) -> list[dict[str, Any]]:
    rows = [row for part in ("kept", "rejects") for row in pq.read_table(artifact.data / part).to_pylist()]
    return sorted(rows, key=lambda row: json.dumps(row, sort_keys=True))


def effort(artifact: Artifact) -> tuple[float, float]:
    return artifact.manifest.counts["drawn"], artifact.manifest.counts["reused"]


def test_more_rows_draw_only_the_new_ones(tmp_path: Path) -> None:
    first = ask(config(40), site(tmp_path / "draws"), tmp_path / "a")
    again = ask(config(40), site(tmp_path / "draws", batch_rows=3), tmp_path / "b")
    more = ask(config(44), site(tmp_path / "draws"), tmp_path / "c")
    assert (effort(first), effort(again), effort(more)) == ((40, 0), (0, 40), (4, 40))
    assert rows_of(again) == rows_of(first)
    assert len(rows_of(more)) == 44


def test_another_seed_draws_its_own_rows(tmp_path: Path) -> None:
    ask(config(10), site(tmp_path / "draws"), tmp_path / "a")
    other = ask(config(10, seed=1), site(tmp_path / "draws"), tmp_path / "b")
    assert effort(other) == (10, 0)


def test_answers_of_known_queries_are_not_drawn_again(tmp_path: Path) -> None:
    queries = ask(config(20), site(tmp_path / "draws"), tmp_path / "queries")
    answers = answer(config(20), queries, site(tmp_path / "draws"), tmp_path / "answers")
    again = answer(config(20), queries, site(tmp_path / "draws"), tmp_path / "again")
    assert effort(answers) == (queries.manifest.counts["rows"], 0)
    assert effort(again) == (0, queries.manifest.counts["rows"])
    assert rows_of(again) == rows_of(answers)


def test_too_many_engine_errors_stop_the_stage_and_name_the_reasons(tmp_path: Path) -> None:
    import pyarrow as pa  # noqa: PLC0415

    row = {"key": 1, "row_id": "a", "text": "", "finished": False, "prompt_tokens": 0, "answer_tokens": 0, "topic": "", "query": ""}
    rows = [{**row, "key": number, "error": "too long" if number else "lost"} for number in range(3)]
    failed = DrawStore(tmp_path / "failed")
    failed.add(pa.Table.from_pylist(rows, schema=DRAWN_SCHEMA))
    _check_budget(failed, total=15, budget=0.2)
    with pytest.raises(UserError, match=r"failed on 3 of 14 rows.*2 x too long; 1 x lost"):
        _check_budget(failed, total=14, budget=0.2)
