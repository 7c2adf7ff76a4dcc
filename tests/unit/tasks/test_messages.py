import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from delia_ray.errors import UserError
from delia_ray.tasks.config import MessagesTask
from delia_ray.tasks.messages import messages_items

GOOD = {"messages": [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}]}


def task(tmp_path: Path, *lines: str | bytes, **fields: Any) -> MessagesTask:
    raw = [line if isinstance(line, bytes) else line.encode() for line in lines]
    (tmp_path / "train.jsonl").write_bytes(b"\n".join(raw))
    (tmp_path / "test.jsonl").write_text(json.dumps(GOOD))
    return MessagesTask(kind="messages", train=tmp_path / "train.jsonl", test=tmp_path / "test.jsonl", **fields)


def test_rows_come_in_the_order_of_the_file_and_repeats_stay_apart(tmp_path: Path):
    items = messages_items(task(tmp_path, json.dumps(GOOD), "", json.dumps(GOOD)))
    assert [row["messages"] for row in items["train"]] == [GOOD["messages"]] * 2
    assert len({row["example_id"] for row in items["train"]}) == 2


def test_parquet_and_jsonl_give_the_same_rows(tmp_path: Path):
    lines = task(tmp_path, json.dumps(GOOD))
    pq.write_table(pa.Table.from_pylist([GOOD]), tmp_path / "train.parquet")
    columns = lines.model_copy(update={"train": tmp_path / "train.parquet"})
    assert messages_items(lines) == messages_items(columns)


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("{not json", "line 2: not valid JSON"),
        ("[1, 2]", "line 2: found list"),
        (b"\xff\xfe", "line 2: not valid JSON"),
        ("[" * 100_000, "line 2: not valid JSON"),
        ('{"prompt": "x"}', "`messages` is NoneType"),
        ('{"messages": "x"}', "`messages` is str"),
        ('{"messages": ["x"]}', r"messages\[0\] is str"),
        ('{"messages": [{"content": "x"}]}', r"messages\[0\]: role is None"),
        ('{"messages": [{"role": "robot", "content": "x"}]}', r"role is 'robot'"),
        ('{"messages": [{"role": "user", "content": " "}]}', r"content is ' '"),
        ('{"messages": [{"role": "user", "content": 3}]}', r"content is 3"),
        ('{"messages": [{"role": "user", "content": "x"}]}', "does not end with"),
        ('{"messages": []}', "does not end with"),
    ],
)
def test_a_bad_row_is_refused_by_file_and_line(tmp_path: Path, line: str | bytes, named: str):
    with pytest.raises(UserError, match=named) as caught:
        messages_items(task(tmp_path, json.dumps(GOOD), line))
    assert "train.jsonl line 2" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "content", "named"), [("a.csv", "x", "use .jsonl or .parquet"), ("a.parquet", "x", "is not Parquet")])
def test_a_file_of_another_format_is_refused(tmp_path: Path, name: str, content: str, named: str):
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=named):
        messages_items(task(tmp_path, json.dumps(GOOD)).model_copy(update={"train": tmp_path / name}))


def test_an_empty_or_missing_file_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match=r"task\.train: .*train\.jsonl is empty"):
        messages_items(task(tmp_path, ""))
    with pytest.raises(UserError, match=r"none\.jsonl: No such file"):
        messages_items(task(tmp_path, "").model_copy(update={"train": tmp_path / "none.jsonl"}))


def test_an_instruction_that_a_row_does_not_contain_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match=r"line 1: .*task\.instruction='Add up\.'"):
        messages_items(task(tmp_path, json.dumps(GOOD), instruction="Add up."))
