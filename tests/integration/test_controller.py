"""The diversity controller on the echo engine, whose queries of one topic differ only in a number: every topic collapses."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from delia_ray.cli.terminal import StageLine
from delia_ray.core.artifacts import Artifact, Provenance
from delia_ray.models import adopt_model
from delia_ray.placement import ActorPool, Engine
from delia_ray.synthesis.config import EchoEngine, SynthesizeConfig
from delia_ray.synthesis.context import GenerationContext
from delia_ray.synthesis.controller.policy import parse_log, replay_plans
from delia_ray.synthesis.prompts import format_query_id, load_topics
from delia_ray.synthesis.queries_stage import generate_queries
from delia_ray.synthesis.query_config import DiversityController, MagpieQueries

pytestmark = pytest.mark.usefixtures("local_ray")
CONTROLLER = DiversityController(wave_rows=160, fewest_texts=2, temperature_step=0.2, max_temperature=1.2)
TOPICS = [topic["topic"] for topic in load_topics()]


def build(out: Path, rows: int, controller: DiversityController | None = CONTROLLER, batch_rows: int = 16) -> Artifact:
    model = adopt_model("builtin:smollm2-135m-instruct")
    context = GenerationContext(
        model, Engine(), ActorPool(batch_rows=batch_rows), out.parent / "cache", lambda _=None: None, StageLine("t"), Provenance(None, [])
    )
    config = SynthesizeConfig(engine=EchoEngine(kind="echo"), queries=MagpieQueries(rows=rows, controller=controller))
    return generate_queries(config, context, out)


def topic_of(artifact: Artifact) -> dict[str, str]:
    return {row["query_id"]: row["topic"] for row in pq.read_table(artifact.data / "kept").to_pylist()}


def log_of(artifact: Artifact) -> str:
    return (artifact.data / "controller.jsonl").read_text()


def cost(artifact: Artifact) -> tuple[Any, Any]:
    return artifact.manifest.counts["generated"], artifact.manifest.counts["cached"]


def test_collapsing_topics_are_heated_reworded_and_stopped_and_a_rerun_does_the_same_from_the_cache(tmp_path: Path) -> None:
    first = build(tmp_path / "first", 1000)
    again = build(tmp_path / "again", 1000, batch_rows=7)
    assert (cost(first), cost(again)) == ((1000, 0), (0, 1000))
    assert log_of(again) == log_of(first)
    lines = [json.loads(line) for line in log_of(first).splitlines()]
    actions = [line["action"] for line in lines if line.get("topic") == "cooking"]
    assert actions[:2] == ["heat", "reword"]
    assert set(actions[2:]) <= {"reword", "stop"}
    assert sum(line.get("action") == "stop" for line in lines) == len(TOPICS) - lines[-1]["topics"]
    planned = {
        format_query_id(each.number): each.topic for wave in replay_plans(TOPICS, 1.0, 1000, 160, parse_log(log_of(first))) for each in wave
    }
    assert len(planned) == 1000
    kept = topic_of(first)
    assert kept.items() <= planned.items() and kept == topic_of(again)


@pytest.mark.slow
def test_more_rows_under_the_controller_generate_only_the_new_ones(tmp_path: Path) -> None:
    build(tmp_path / "a", 500)
    assert cost(build(tmp_path / "b", 550)) == (50, 500)


@pytest.mark.slow
def test_a_controller_that_chooses_no_action_changes_no_query(tmp_path: Path) -> None:
    plain = build(tmp_path / "plain", 300, controller=None)
    calm = build(tmp_path / "calm", 300, CONTROLLER.model_copy(update={"new_trigrams": 0.0, "new_texts": 0.0}))
    assert cost(calm) == (0, 300)
    assert topic_of(calm) == topic_of(plain)
