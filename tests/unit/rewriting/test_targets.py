"""The task's targets in the model's own words."""

import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from delia_ray.artifacts import Artifact, Counts, Provenance, Workspace, build_once
from delia_ray.config import Config
from delia_ray.evaluation.task_metrics import keeps_target
from delia_ray.records import EXAMPLE_SCHEMA, EXAMPLES_KIND, Example, Message
from delia_ray.rewriting.targets import distil
from delia_ray.tasks.config import FormatTask, MessagesTask

PROVENANCE = Provenance(None, ["pytest"])


class Given(Config):
    name: str


def row(name: str, label: str) -> Example:
    target = json.dumps({"thought": "It is so.", "hallucination": label})
    messages: list[Message] = [{"role": "user", "content": f"Is {name} right? <sep>"}, {"role": "assistant", "content": target}]
    return {"example_id": name, "group": "task", "messages": messages, "label": label}


@pytest.fixture
def rewritten(tmp_path: Path) -> Artifact:
    splits = {"train": [row("a", "yes"), row("b", "no"), row("c", "no")], "dev": [row("d", "no")], "test": [row("e", "yes")]}

    def write(workspace: Workspace) -> Counts:
        for split, rows in splits.items():
            pq.write_table(pa.Table.from_pylist(list(rows), schema=EXAMPLE_SCHEMA), workspace.data / f"{split}.parquet")
        return {split: len(rows) for split, rows in splits.items()}

    given = Given(name="rewritten")
    return build_once(
        tmp_path / "rewritten", stage="given/1", kind=EXAMPLES_KIND, request=given, inputs={}, provenance=PROVENANCE, write=write
    )


def told(label: str) -> str:
    return json.dumps({"thought": "Mine.", "hallucination": label})


def test_an_own_target_is_taken_where_it_does_the_task_and_the_given_one_stays_elsewhere(tmp_path: Path, rewritten: Artifact):
    seen: list[list[Message]] = []

    def ask(conversations: Sequence[list[Message]]) -> list[str]:
        seen.extend(conversations)
        return [told("yes"), "It is not right.", f" {told('yes')}\n"]

    def keeps(example: Example, text: str) -> bool:
        return keeps_target(FormatTask(), example, text)

    found = distil(rewritten, rewritten, keeps, ask, 64, tmp_path / "distilled", PROVENANCE)
    given = pq.read_table(rewritten.data / "train.parquet").to_pylist()
    rows = pq.read_table(found.data / "train.parquet").to_pylist()
    assert [each["messages"][-1]["content"] for each in rows] == [told("yes"), *(each["messages"][-1]["content"] for each in given[1:])]
    assert found.manifest.counts == {"train": 3, "dev": 1, "test": 1, "own": 1}
    assert [each["messages"][:-1] for each in rows] == [each["messages"][:-1] for each in given]
    for example, (shown,) in zip(given, seen, strict=True):
        asked, target = (message["content"] for message in example["messages"])
        assert asked in shown["content"] and target in shown["content"] and shown["role"] == "user"
    for split in ("dev", "test"):
        assert pq.read_table(found.data / f"{split}.parquet") == pq.read_table(rewritten.data / f"{split}.parquet")
    assert pq.read_table(found.data / "answers.parquet")["taken"].to_pylist() == [True, False, False]


def messages_task(metric: str, **more: str) -> MessagesTask:
    return MessagesTask.model_validate({"kind": "messages", "train": "a", "test": "b", "metric": metric, **more})


@pytest.mark.parametrize(
    ("task", "text", "kept"),
    [
        (FormatTask(), told("yes"), True),
        (FormatTask(), told("no"), False),
        (messages_task("json_valid"), "[1]", True),
        (messages_task("json_valid"), "one", False),
        (messages_task("regex", pattern="[0-9]+ m"), "12 m", True),
        (messages_task("regex", pattern="[0-9]+ m"), "12 metres", False),
        (messages_task("rouge_l"), "other words", True),
        (messages_task("rouge_l"), "", False),
    ],
)
def test_a_text_stands_for_the_target_when_it_has_what_the_task_judges_exactly(task: FormatTask | MessagesTask, text: str, kept: bool):
    assert keeps_target(task, row("a", "yes"), text) is kept
