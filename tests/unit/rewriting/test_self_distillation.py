"""Self-distillation: the task's targets in the base model's own words."""

import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from delia_ray.core.artifacts import Artifact, Counts, Provenance, Workspace, build_once
from delia_ray.core.config import Config
from delia_ray.core.records import EXAMPLE_SCHEMA, EXAMPLES_KIND, Example, Message
from delia_ray.evaluation.metrics.task_metrics import is_equivalent_target
from delia_ray.rewriting.self_distillation import distill_targets
from delia_ray.tasks.config import FormatTask, MessagesTask

PROVENANCE = Provenance(None, ["pytest"])


class RewrittenRequest(Config):
    name: str


def make_row(name: str, label: str) -> Example:
    target = json.dumps({"thought": "It is so.", "hallucination": label})
    messages: list[Message] = [{"role": "user", "content": f"Is {name} right? <sep>"}, {"role": "assistant", "content": target}]
    return {"example_id": name, "group": "task", "messages": messages, "label": label}


@pytest.fixture
def rewritten(tmp_path: Path) -> Artifact:
    splits = {
        "train": [make_row("a", "yes"), make_row("b", "no"), make_row("c", "no")],
        "dev": [make_row("d", "no")],
        "test": [make_row("e", "yes")],
    }

    def write(workspace: Workspace) -> Counts:
        for split, rows in splits.items():
            pq.write_table(pa.Table.from_pylist(list(rows), schema=EXAMPLE_SCHEMA), workspace.data / f"{split}.parquet")
        return {split: len(rows) for split, rows in splits.items()}

    request = RewrittenRequest(name="rewritten")
    return build_once(
        tmp_path / "rewritten", stage="given/1", kind=EXAMPLES_KIND, request=request, inputs={}, provenance=PROVENANCE, write=write
    )


def make_answer(label: str) -> str:
    return json.dumps({"thought": "Mine.", "hallucination": label})


def test_an_own_target_is_taken_where_it_does_the_task_and_the_original_one_stays_elsewhere(tmp_path: Path, rewritten: Artifact):
    prompts: list[list[Message]] = []

    def generate(conversations: Sequence[list[Message]]) -> list[str]:
        prompts.extend(conversations)
        return [make_answer("yes"), "It is not right.", f" {make_answer('yes')}\n"]

    def keeps(example: Example, text: str) -> bool:
        return is_equivalent_target(FormatTask(), example, text)

    distilled = distill_targets(rewritten, rewritten, keeps, generate, 64, tmp_path / "distilled", PROVENANCE)
    original = pq.read_table(rewritten.data / "train.parquet").to_pylist()
    rows = pq.read_table(distilled.data / "train.parquet").to_pylist()
    assert [each["messages"][-1]["content"] for each in rows] == [
        make_answer("yes"),
        *(each["messages"][-1]["content"] for each in original[1:]),
    ]
    assert distilled.manifest.counts == {"train": 3, "dev": 1, "test": 1, "own": 1}
    assert [each["messages"][:-1] for each in rows] == [each["messages"][:-1] for each in original]
    for example, (prompt,) in zip(original, prompts, strict=True):
        request, target = (message["content"] for message in example["messages"])
        assert request in prompt["content"] and target in prompt["content"] and prompt["role"] == "user"
    for split in ("dev", "test"):
        assert pq.read_table(distilled.data / f"{split}.parquet") == pq.read_table(rewritten.data / f"{split}.parquet")
    assert pq.read_table(distilled.data / "answers.parquet")["taken"].to_pylist() == [True, False, False]


def make_messages_task(metric: str, **more: str) -> MessagesTask:
    return MessagesTask.model_validate({"kind": "messages", "train": "a", "test": "b", "metric": metric, **more})


@pytest.mark.parametrize(
    ("task", "text", "kept"),
    [
        (FormatTask(), make_answer("yes"), True),
        (FormatTask(), make_answer("no"), False),
        (make_messages_task("json_valid"), "[1]", True),
        (make_messages_task("json_valid"), "one", False),
        (make_messages_task("regex", pattern="[0-9]+ m"), "12 m", True),
        (make_messages_task("regex", pattern="[0-9]+ m"), "12 metres", False),
        (make_messages_task("rouge_l"), "other words", True),
        (make_messages_task("rouge_l"), "", False),
    ],
)
def test_a_text_stands_for_the_target_when_it_has_what_the_task_judges_exactly(task: FormatTask | MessagesTask, text: str, kept: bool):
    assert is_equivalent_target(task, make_row("a", "yes"), text) is kept
