"""Answers side by side belong to one prompt."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from delia_ray.core.artifacts import Artifact, Counts, Provenance, Workspace, build_once
from delia_ray.core.config import Config
from delia_ray.evaluation.scoring import GENERATION_SCHEMA, GenerationRow
from delia_ray.reporting.examples import select_examples


class Request(Config):
    arm: str


def scores(folder: Path, arm: str, prompts: list[tuple[str, str]]) -> Artifact:
    def row(probe: str, prompt_id: str) -> GenerationRow:
        return {
            "prompt_id": prompt_id, "probe": probe, "messages": [{"role": "user", "content": f"{probe} {prompt_id}"}], "label": None,
            "wording": None, "document": None, "expected": None, "answer": f"{arm}: {probe} {prompt_id}",
            "unchanged": None, "kl_sum": None, "tokens": None,
        }  # fmt: skip

    def write(workspace: Workspace) -> Counts:
        rows = [row(*each) for each in prompts]
        pq.write_table(pa.Table.from_pylist(list(rows), schema=GENERATION_SCHEMA), workspace.data / "generations.parquet")
        return {"rows": len(rows)}

    provenance = Provenance("0" * 40, ["delia"])
    return build_once(
        folder / arm, stage="scores/2", kind="scores/2", request=Request(arm=arm), inputs={}, provenance=provenance, write=write
    )


def test_one_item_in_two_test_sets_is_two_prompts_and_an_arm_without_the_prompt_has_no_answer(tmp_path: Path):
    both = scores(tmp_path, "base", [("test", "a"), ("test", "b"), ("no_token", "a")])
    some = scores(tmp_path, "sft", [("test", "b"), ("test", "a")])
    shown = select_examples({"base": both, "sft": some}, "format", 10)
    assert [(each.set, each.prompt, each.answers) for each in shown] == [
        ("format_acc", "test a", {"base": "base: test a", "sft": "sft: test a"}),
        ("no_token", "no_token a", {"base": "base: no_token a"}),
        ("format_acc", "test b", {"base": "base: test b", "sft": "sft: test b"}),
    ]


def test_at_most_the_requested_number_of_prompts_is_selected(tmp_path: Path):
    base = scores(tmp_path, "base", [("test", str(n)) for n in range(5)])
    assert [each.prompt for each in select_examples({"base": base}, "messages", 2)] == ["test 0", "test 1"]
