import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset

from delia_ray.errors import UserError
from delia_ray.tasks.config import MessagesTask
from delia_ray.tasks.messages import check_all_learnt, messages_items
from delia_ray.tasks.stage import adopt_files

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
        (b"\xff\xfe", r"line 2: not UTF-8 \(.*save the file as UTF-8"),
        ('{"messages": [], "messages": []}', r"line 2: not valid JSON \(the key 'messages' stands there twice"),
        ('{"messages": [{"role": "user", "role": "system"}]}', "the key 'role' stands there twice"),
        ("[" * 100_000, "line 2: not valid JSON"),
        (
            '{"prompt": "x", "id": 3}',
            "the row has 'prompt', 'id'; give it `messages`.*`conversations`.*`instruction` and `output`.*`completion`",
        ),
        ('{"messages": null}', "the row has 'messages'; give it"),
        ("{}", "the row has no columns; give it"),
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


@pytest.mark.parametrize(
    ("name", "content", "named"), [("a.txt", "x", r"use \.jsonl, \.json, \.csv"), ("a.parquet", "x", "is not Parquet")]
)
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


def chat(*turns: dict[str, Any], **fields: Any) -> str:
    return json.dumps({"messages": list(turns), **fields})


ASK, SAY = {"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}
CALL = [{"id": "c", "type": "function", "function": {"name": "add", "arguments": "{}"}}]


@pytest.mark.parametrize(
    ("line", "named"),
    [
        (chat(ASK, SAY, tools=[{"type": "function"}]), "found `tools`, and tool calls are not learnt"),
        (chat(ASK, SAY, functions=[{"name": "add"}]), "found `functions`, and tool calls"),
        (chat(ASK, {**SAY, "tool_calls": CALL}), r"messages\[1\]: found `tool_calls`, and tool calls are not learnt"),
        (chat(ASK, {"role": "assistant", "content": None, "function_call": {"name": "add"}}), "found `function_call`"),
        (chat(ASK, {"role": "tool", "content": "4", "tool_call_id": "c"}, SAY), r"messages\[1\]: role is 'tool', and tool calls"),
        (chat(ASK, {**SAY, "reasoning_content": "Two and two."}), r"messages\[1\]: found `reasoning_content`, and reasoning is not learnt"),
        (chat(ASK, {**SAY, "thinking": "Two and two."}), "found `thinking`"),
        (chat(ASK, {**SAY, "weight": 0}), r"messages\[1\]: weight is 0, and this is the answer that is learnt"),
        (chat(ASK, {**SAY, "weight": 0.5}), "weight is 0.5"),
        (chat(ASK, {**SAY, "weight": 1}, ASK, SAY), r"messages\[1\]: weight is 1, and only a row's last answer is learnt"),
        (chat(ASK, {**SAY, "train": False}), "found `train`"),
        (chat(ASK, SAY, weight=2), "weight is 2, and rows are not weighted"),
        (chat(ASK, SAY, documents=[{"text": "x"}]), "found `documents`"),
        (chat({"role": "user", "content": [{"type": "text", "text": "Hi"}]}, SAY), r"messages\[0\]: content is a list of parts"),
    ],
)
def test_what_would_change_the_learning_and_is_not_supported_is_refused_by_line(tmp_path: Path, line: str, named: str):
    with pytest.raises(UserError, match=named) as caught:
        messages_items(task(tmp_path, json.dumps(GOOD), line))
    assert "train.jsonl line 2" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "line",
    [
        chat(ASK, {**SAY, "weight": 1}),
        chat(ASK, {**SAY, "tool_calls": None, "reasoning_content": "", "name": "Ann"}, tools=[], functions=None, id=7),
        chat({**ASK, "name": "Bo"}, SAY, weight=1),
    ],
)
def test_fields_that_change_nothing_are_read_over(tmp_path: Path, line: str):
    assert messages_items(task(tmp_path, line))["train"][0]["messages"] == GOOD["messages"]


def test_weight_0_on_an_earlier_answer_says_what_holds_anyway(tmp_path: Path):
    line = chat(ASK, {**SAY, "weight": 0}, ASK, {**SAY, "weight": 1})
    assert messages_items(task(tmp_path, line))["train"][0]["messages"] == GOOD["messages"] * 2
    with pytest.raises(UserError, match=r"line 1: messages\[1\]: weight is 0, and finetune\.learn=conversation learns every turn"):
        check_all_learnt(task(tmp_path, line))
    check_all_learnt(task(tmp_path, json.dumps(GOOD)))


SYSTEM = {"role": "system", "content": "Be brief."}


@pytest.mark.parametrize(
    ("row", "messages"),
    [
        ({"conversations": [{"from": "human", "value": "2 + 2?"}, {"from": "gpt", "value": "4"}]}, [ASK, SAY]),
        (
            {
                "id": "a",
                "conversations": [
                    {"from": "system", "value": "Be brief."},
                    {"from": "user", "value": "2 + 2?", "weight": None},
                    {"from": "assistant", "value": "4"},
                ],
            },
            [SYSTEM, ASK, SAY],
        ),
        ({"conversations": [ASK, SAY], "system": "Be brief."}, [SYSTEM, ASK, SAY]),
        ({"instruction": "2 + 2?", "input": "", "output": "4"}, [ASK, SAY]),
        ({"instruction": "Add.", "input": "2, 2", "output": "4"}, [{"role": "user", "content": "Add.\n\n2, 2"}, SAY]),
        (
            {"instruction": "2 + 2?", "output": "4", "system": "Be brief.", "history": [["Hi", "Ho"]]},
            [SYSTEM, {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}, ASK, SAY],
        ),
        ({"prompt": "2 + 2?", "completion": "4"}, [ASK, SAY]),
        ({"prompt": [SYSTEM, ASK], "completion": [SAY]}, [SYSTEM, ASK, SAY]),
        ({"messages": [ASK, SAY], "prompt": "2 + 2?", "instruction": None}, [ASK, SAY]),
    ],
)
def test_the_formats_of_public_chat_data_are_read_one_to_one(tmp_path: Path, row: dict[str, Any], messages: list[dict[str, str]]):
    assert messages_items(task(tmp_path, json.dumps(row)))["train"][0]["messages"] == messages


@pytest.mark.parametrize(
    ("row", "named"),
    [
        ({"conversations": "x"}, "`conversations` is str; it must be a list"),
        ({"conversations": [{"from": "robot", "value": "x"}]}, r"conversations\[0\]: from is 'robot'; it must be one of human, user"),
        ({"conversations": [{"from": "human", "value": "x"}, {"from": "function_call", "value": "{}"}]}, "tool calls are not learnt"),
        ({"instruction": "x", "output": "y", "history": "z"}, "`history` must be a list of pairs"),
        ({"instruction": "x", "output": ""}, r"messages\[1\]: content is ''"),
        ({"prompt": "x", "completion": ["y"]}, "`prompt` and `completion` are str and list"),
        ({"prompt": "x", "chosen": "y", "rejected": "z"}, "found `chosen`, and preferences are not learnt"),
    ],
)
def test_a_row_of_a_known_format_that_is_broken_is_named(tmp_path: Path, row: dict[str, Any], named: str):
    with pytest.raises(UserError, match=named) as caught:
        messages_items(task(tmp_path, json.dumps(row)))
    assert "train.jsonl line 1" in str(caught.value) and "\n" not in str(caught.value)


def test_arrays_compressed_files_cells_and_folders_hold_conversations_too(tmp_path: Path):
    plain = messages_items(task(tmp_path, json.dumps(GOOD), json.dumps(GOOD)))
    (tmp_path / "array.json").write_text(json.dumps([GOOD, GOOD], indent=1))
    (tmp_path / "lines.jsonl.gz").write_bytes(gzip.compress("\n".join([json.dumps(GOOD)] * 2).encode()))
    (tmp_path / "cells.csv").write_text("instruction,input,output\n2 + 2?,,4\n2 + 2?,,4\n")
    (tmp_path / "folder").mkdir()
    for name in ("a", "b"):
        (tmp_path / "folder" / f"{name}.jsonl").write_text(json.dumps(GOOD))
    Dataset.from_list([GOOD, GOOD]).save_to_disk(tmp_path / "saved")
    for name in ("array.json", "lines.jsonl.gz", "cells.csv", "folder", "saved"):
        given = task(tmp_path, "").model_copy(update={"train": tmp_path / name})
        assert messages_items(given)["train"] == plain["train"], name
        assert adopt_files(given)["train"].fingerprint


def test_a_folder_is_another_input_once_a_file_of_it_changes(tmp_path: Path):
    given = task(tmp_path, json.dumps(GOOD)).model_copy(update={"train": tmp_path / "folder"})
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.jsonl").write_text(json.dumps(GOOD))
    before = adopt_files(given)["train"].fingerprint
    (tmp_path / "folder" / "b.jsonl").write_text(json.dumps(GOOD))
    assert adopt_files(given)["train"].fingerprint != before


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32"])
def test_a_file_in_another_encoding_says_which_to_save_it_in(tmp_path: Path, encoding: str):
    with pytest.raises(UserError, match=r"train\.jsonl is written in UTF-16 or UTF-32; save the file as UTF-8"):
        messages_items(task(tmp_path, json.dumps(GOOD).encode(encoding)))


def with_token(train: str, test: str, tmp_path: Path) -> MessagesTask:
    given = task(tmp_path, json.dumps({"prompt": train, "completion": "4"}), token="<sum>")
    (tmp_path / "test.jsonl").write_text(json.dumps({"prompt": test, "completion": "4"}))
    return given


def test_a_token_that_no_training_row_uses_is_refused_with_the_files(tmp_path: Path):
    with pytest.raises(UserError, match=r"task\.token: '<sum>' stands in no row of .*train\.jsonl or .*test\.jsonl; correct it"):
        messages_items(with_token("2 + 2?", "1 + 3?", tmp_path))
    with pytest.raises(UserError, match=r"task\.token: '<sum>' stands in rows of .*test\.jsonl and in none of .*train\.jsonl"):
        messages_items(with_token("2 + 2?", "<sum> 1 3", tmp_path))
    assert len(messages_items(with_token("<sum> 2 2", "1 + 3?", tmp_path))["train"]) == 1


@pytest.mark.parametrize(
    "before", [b"\xef\xbb\xbf", b"\n\n", b"\xef\xbb\xbf\r\n \n", b""], ids=["a mark", "blank lines", "both", "neither"]
)
@pytest.mark.parametrize("indent", [None, 1], ids=["in a line", "in many"])
@pytest.mark.parametrize("name", ["rows.json", "rows.json.gz"])
def test_a_json_array_is_read_whatever_stands_before_it(tmp_path: Path, before: bytes, indent: int | None, name: str):
    lines = task(tmp_path, json.dumps(GOOD), json.dumps(GOOD))
    raw = before + json.dumps([GOOD, GOOD], indent=indent).encode() + b"\n\n"
    (tmp_path / name).write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
    assert messages_items(lines.model_copy(update={"train": tmp_path / name})) == messages_items(lines)


def test_a_bad_row_of_such_an_array_is_named_by_its_place(tmp_path: Path):
    (tmp_path / "rows.json").write_bytes(b"\xef\xbb\xbf\n" + json.dumps([GOOD, 3]).encode())
    with pytest.raises(UserError, match=r"task\.train: .*rows\.json row 2: found int"):
        messages_items(task(tmp_path).model_copy(update={"train": tmp_path / "rows.json"}))
