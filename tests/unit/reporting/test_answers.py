"""Answers side by side belong to one prompt."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from delia_ray.artifacts import Artifact, Counts, Provenance, Workspace, build_once
from delia_ray.config import Config
from delia_ray.evaluation.scoring import GENERATION_SCHEMA, Generation
from delia_ray.reporting.answers import side_by_side


class Request(Config):
    arm: str


def scores(folder: Path, arm: str, asked: list[tuple[str, str]]) -> Artifact:
    def row(probe: str, prompt_id: str) -> Generation:
        return {
            "prompt_id": prompt_id, "probe": probe, "messages": [{"role": "user", "content": f"{probe} {prompt_id}"}], "label": None,
            "wording": None, "document": None, "expected": None, "answer": f"{arm}: {probe} {prompt_id}",
            "unchanged": None, "kl_sum": None, "tokens": None,
        }  # fmt: skip

    def write(workspace: Workspace) -> Counts:
        rows = [row(*each) for each in asked]
        pq.write_table(pa.Table.from_pylist(list(rows), schema=GENERATION_SCHEMA), workspace.data / "generations.parquet")
        return {"rows": len(rows)}

    provenance = Provenance("0" * 40, ["delia"])
    return build_once(
        folder / arm, stage="scores/2", kind="scores/2", request=Request(arm=arm), inputs={}, provenance=provenance, write=write
    )


def test_one_item_under_two_probes_is_two_prompts_and_who_was_not_asked_has_no_answer(tmp_path: Path):
    both = scores(tmp_path, "base", [("test", "a"), ("test", "b"), ("no_token", "a")])
    some = scores(tmp_path, "told", [("test", "b"), ("test", "a")])
    shown = side_by_side({"base": both, "told": some}, "format", 10)
    assert [(each.set, each.prompt, each.answers) for each in shown] == [
        ("format_acc", "test a", {"base": "base: test a", "told": "told: test a"}),
        ("no_token", "no_token a", {"base": "base: no_token a"}),
        ("format_acc", "test b", {"base": "base: test b", "told": "told: test b"}),
    ]


def test_no_more_than_asked_for_are_shown(tmp_path: Path):
    asked = scores(tmp_path, "base", [("test", str(n)) for n in range(5)])
    assert [each.prompt for each in side_by_side({"base": asked}, "messages", 2)] == ["test 0", "test 1"]
