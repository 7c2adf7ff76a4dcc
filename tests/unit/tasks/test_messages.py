import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset

from delia_ray.core.errors import UserError
from delia_ray.tasks.config import MessagesTask
from delia_ray.tasks.messages import check_all_answers_trained, load_messages_items
from delia_ray.tasks.stage import adopt_files

GOOD = {"messages": [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}]}


def task(tmp_path: Path, *lines: str | bytes, **fields: Any) -> MessagesTask:
    raw = [line if isinstance(line, bytes) else line.encode() for line in lines]
    (tmp_path / "train.jsonl").write_bytes(b"\n".join(raw))
    (tmp_path / "test.jsonl").write_text(json.dumps(GOOD))
    return MessagesTask(kind="messages", train=tmp_path / "train.jsonl", test=tmp_path / "test.jsonl", **fields)


def test_rows_keep_the_order_of_the_file_and_duplicates_get_their_own_ids(tmp_path: Path):
    items = load_messages_items(task(tmp_path, json.dumps(GOOD), "", json.dumps(GOOD)))
    assert [row["messages"] for row in items["train"]] == [GOOD["messages"]] * 2
    assert len({row["example_id"] for row in items["train"]}) == 2


def test_parquet_and_jsonl_give_the_same_rows(tmp_path: Path):
    lines = task(tmp_path, json.dumps(GOOD))
    pq.write_table(pa.Table.from_pylist([GOOD]), tmp_path / "train.parquet")
    columns = lines.model_copy(update={"train": tmp_path / "train.parquet"})
    assert load_messages_items(lines) == load_messages_items(columns)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{not json", "line 2: not valid JSON"),
        ("[1, 2]", "line 2: found list"),
        (b"\xff\xfe", r"line 2: not UTF-8 \(.*save the file as UTF-8"),
        ('{"messages": [], "messages": []}', r"line 2: not valid JSON \(the key 'messages' occurs twice"),
        ('{"messages": [{"role": "user", "role": "system"}]}', "the key 'role' occurs twice"),
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
def test_a_bad_row_is_refused_by_file_and_line(tmp_path: Path, line: str | bytes, message: str):
    with pytest.raises(UserError, match=message) as caught:
        load_messages_items(task(tmp_path, json.dumps(GOOD), line))
    assert "train.jsonl line 2" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "message"), [("a.txt", "x", r"use \.jsonl, \.json, \.csv"), ("a.parquet", "x", "is not Parquet")]
)
def test_a_file_of_another_format_is_refused(tmp_path: Path, name: str, content: str, message: str):
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=message):
        load_messages_items(task(tmp_path, json.dumps(GOOD)).model_copy(update={"train": tmp_path / name}))


def test_an_empty_or_missing_file_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match=r"task\.train: .*train\.jsonl is empty"):
        load_messages_items(task(tmp_path, ""))
    with pytest.raises(UserError, match=r"none\.jsonl: No such file"):
        load_messages_items(task(tmp_path, "").model_copy(update={"train": tmp_path / "none.jsonl"}))


def test_an_instruction_that_a_row_does_not_contain_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match=r"line 1: .*task\.instruction='Add up\.'"):
        load_messages_items(task(tmp_path, json.dumps(GOOD), instruction="Add up."))


def to_jsonl(*turns: dict[str, Any], **fields: Any) -> str:
    return json.dumps({"messages": list(turns), **fields})


USER_TURN, ASSISTANT_TURN = {"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}
TOOL_CALLS = [{"id": "c", "type": "function", "function": {"name": "add", "arguments": "{}"}}]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (to_jsonl(USER_TURN, ASSISTANT_TURN, tools=[{"type": "function"}]), "found `tools`, and tool calls are not trained on"),
        (to_jsonl(USER_TURN, ASSISTANT_TURN, functions=[{"name": "add"}]), "found `functions`, and tool calls"),
        (
            to_jsonl(USER_TURN, {**ASSISTANT_TURN, "tool_calls": TOOL_CALLS}),
            r"messages\[1\]: found `tool_calls`, and tool calls are not trained on",
        ),
        (to_jsonl(USER_TURN, {"role": "assistant", "content": None, "function_call": {"name": "add"}}), "found `function_call`"),
        (
            to_jsonl(USER_TURN, {"role": "tool", "content": "4", "tool_call_id": "c"}, ASSISTANT_TURN),
            r"messages\[1\]: role is 'tool', and tool calls",
        ),
        (
            to_jsonl(USER_TURN, {**ASSISTANT_TURN, "reasoning_content": "Two and two."}),
            r"messages\[1\]: found `reasoning_content`, and reasoning is not trained on",
        ),
        (to_jsonl(USER_TURN, {**ASSISTANT_TURN, "thinking": "Two and two."}), "found `thinking`"),
        (to_jsonl(USER_TURN, {**ASSISTANT_TURN, "weight": 0}), r"messages\[1\]: weight is 0, and this is the answer that is trained on"),
        (to_jsonl(USER_TURN, {**ASSISTANT_TURN, "weight": 0.5}), "weight is 0.5"),
        (
            to_jsonl(USER_TURN, {**ASSISTANT_TURN, "weight": 1}, USER_TURN, ASSISTANT_TURN),
            r"messages\[1\]: weight is 1, and only a row's last answer is trained on",
        ),
        (to_jsonl(USER_TURN, {**ASSISTANT_TURN, "train": False}), "found `train`"),
        (to_jsonl(USER_TURN, ASSISTANT_TURN, weight=2), "weight is 2, and rows are not weighted"),
        (to_jsonl(USER_TURN, ASSISTANT_TURN, documents=[{"text": "x"}]), "found `documents`"),
        (
            to_jsonl({"role": "user", "content": [{"type": "text", "text": "Hi"}]}, ASSISTANT_TURN),
            r"messages\[0\]: content is a list of parts",
        ),
    ],
)
def test_unsupported_fields_that_would_change_the_training_target_are_refused_by_line(tmp_path: Path, line: str, message: str):
    with pytest.raises(UserError, match=message) as caught:
        load_messages_items(task(tmp_path, json.dumps(GOOD), line))
    assert "train.jsonl line 2" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "line",
    [
        to_jsonl(USER_TURN, {**ASSISTANT_TURN, "weight": 1}),
        to_jsonl(USER_TURN, {**ASSISTANT_TURN, "tool_calls": None, "reasoning_content": "", "name": "Ann"}, tools=[], functions=None, id=7),
        to_jsonl({**USER_TURN, "name": "Bo"}, ASSISTANT_TURN, weight=1),
    ],
)
def test_fields_without_effect_are_ignored(tmp_path: Path, line: str):
    assert load_messages_items(task(tmp_path, line))["train"][0]["messages"] == GOOD["messages"]


def test_weight_0_on_an_earlier_answer_is_accepted_unless_conversations_are_trained_on(tmp_path: Path):
    line = to_jsonl(USER_TURN, {**ASSISTANT_TURN, "weight": 0}, USER_TURN, {**ASSISTANT_TURN, "weight": 1})
    assert load_messages_items(task(tmp_path, line))["train"][0]["messages"] == GOOD["messages"] * 2
    with pytest.raises(UserError, match=r"line 1: messages\[1\]: weight is 0, and finetune\.train_on=conversation trains on every turn"):
        check_all_answers_trained(task(tmp_path, line))
    check_all_answers_trained(task(tmp_path, json.dumps(GOOD)))


SYSTEM_TURN = {"role": "system", "content": "Be brief."}


@pytest.mark.parametrize(
    ("row", "messages"),
    [
        ({"conversations": [{"from": "human", "value": "2 + 2?"}, {"from": "gpt", "value": "4"}]}, [USER_TURN, ASSISTANT_TURN]),
        (
            {
                "id": "a",
                "conversations": [
                    {"from": "system", "value": "Be brief."},
                    {"from": "user", "value": "2 + 2?", "weight": None},
                    {"from": "assistant", "value": "4"},
                ],
            },
            [SYSTEM_TURN, USER_TURN, ASSISTANT_TURN],
        ),
        ({"conversations": [USER_TURN, ASSISTANT_TURN], "system": "Be brief."}, [SYSTEM_TURN, USER_TURN, ASSISTANT_TURN]),
        ({"instruction": "2 + 2?", "input": "", "output": "4"}, [USER_TURN, ASSISTANT_TURN]),
        ({"instruction": "Add.", "input": "2, 2", "output": "4"}, [{"role": "user", "content": "Add.\n\n2, 2"}, ASSISTANT_TURN]),
        (
            {"instruction": "2 + 2?", "output": "4", "system": "Be brief.", "history": [["Hi", "Ho"]]},
            [SYSTEM_TURN, {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}, USER_TURN, ASSISTANT_TURN],
        ),
        ({"prompt": "2 + 2?", "completion": "4"}, [USER_TURN, ASSISTANT_TURN]),
        ({"prompt": [SYSTEM_TURN, USER_TURN], "completion": [ASSISTANT_TURN]}, [SYSTEM_TURN, USER_TURN, ASSISTANT_TURN]),
        ({"messages": [USER_TURN, ASSISTANT_TURN], "prompt": "2 + 2?", "instruction": None}, [USER_TURN, ASSISTANT_TURN]),
    ],
)
def test_public_chat_formats_are_converted_one_to_one(tmp_path: Path, row: dict[str, Any], messages: list[dict[str, str]]):
    assert load_messages_items(task(tmp_path, json.dumps(row)))["train"][0]["messages"] == messages


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"conversations": "x"}, "`conversations` is str; it must be a list"),
        ({"conversations": [{"from": "robot", "value": "x"}]}, r"conversations\[0\]: from is 'robot'; it must be one of human, user"),
        ({"conversations": [{"from": "human", "value": "x"}, {"from": "function_call", "value": "{}"}]}, "tool calls are not trained on"),
        ({"instruction": "x", "output": "y", "history": "z"}, "`history` must be a list of pairs"),
        ({"instruction": "x", "output": ""}, r"messages\[1\]: content is ''"),
        ({"prompt": "x", "completion": ["y"]}, "`prompt` and `completion` are str and list"),
        ({"prompt": "x", "chosen": "y", "rejected": "z"}, "found `chosen`, and preferences are not trained on"),
    ],
)
def test_an_invalid_row_of_a_known_format_is_refused(tmp_path: Path, row: dict[str, Any], message: str):
    with pytest.raises(UserError, match=message) as caught:
        load_messages_items(task(tmp_path, json.dumps(row)))
    assert "train.jsonl line 1" in str(caught.value) and "\n" not in str(caught.value)


def test_arrays_compressed_files_csv_and_folders_are_supported(tmp_path: Path):
    plain = load_messages_items(task(tmp_path, json.dumps(GOOD), json.dumps(GOOD)))
    (tmp_path / "array.json").write_text(json.dumps([GOOD, GOOD], indent=1))
    (tmp_path / "lines.jsonl.gz").write_bytes(gzip.compress("\n".join([json.dumps(GOOD)] * 2).encode()))
    (tmp_path / "cells.csv").write_text("instruction,input,output\n2 + 2?,,4\n2 + 2?,,4\n")
    (tmp_path / "folder").mkdir()
    for name in ("a", "b"):
        (tmp_path / "folder" / f"{name}.jsonl").write_text(json.dumps(GOOD))
    Dataset.from_list([GOOD, GOOD]).save_to_disk(tmp_path / "saved")
    for name in ("array.json", "lines.jsonl.gz", "cells.csv", "folder", "saved"):
        config = task(tmp_path, "").model_copy(update={"train": tmp_path / name})
        assert load_messages_items(config)["train"] == plain["train"], name
        assert adopt_files(config)["train"].fingerprint


def test_the_fingerprint_of_a_folder_changes_with_its_files(tmp_path: Path):
    config = task(tmp_path, json.dumps(GOOD)).model_copy(update={"train": tmp_path / "folder"})
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.jsonl").write_text(json.dumps(GOOD))
    before = adopt_files(config)["train"].fingerprint
    (tmp_path / "folder" / "b.jsonl").write_text(json.dumps(GOOD))
    assert adopt_files(config)["train"].fingerprint != before


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32"])
def test_a_file_in_utf_16_or_utf_32_is_refused(tmp_path: Path, encoding: str):
    with pytest.raises(UserError, match=r"train\.jsonl is written in UTF-16 or UTF-32; save the file as UTF-8"):
        load_messages_items(task(tmp_path, json.dumps(GOOD).encode(encoding)))


def make_task_with_token(train: str, test: str, tmp_path: Path) -> MessagesTask:
    config = task(tmp_path, json.dumps({"prompt": train, "completion": "4"}), token="<sum>")
    (tmp_path / "test.jsonl").write_text(json.dumps({"prompt": test, "completion": "4"}))
    return config


def test_a_token_that_no_training_row_contains_is_refused(tmp_path: Path):
    with pytest.raises(UserError, match=r"task\.token: '<sum>' occurs in no row of .*train\.jsonl or .*test\.jsonl; correct it"):
        load_messages_items(make_task_with_token("2 + 2?", "1 + 3?", tmp_path))
    with pytest.raises(UserError, match=r"task\.token: '<sum>' occurs in rows of .*test\.jsonl and in none of .*train\.jsonl"):
        load_messages_items(make_task_with_token("2 + 2?", "<sum> 1 3", tmp_path))
    assert len(load_messages_items(make_task_with_token("<sum> 2 2", "1 + 3?", tmp_path))["train"]) == 1


@pytest.mark.parametrize("prefix", [b"\xef\xbb\xbf", b"\n\n", b"\xef\xbb\xbf\r\n \n", b""], ids=["BOM", "blank lines", "both", "neither"])
@pytest.mark.parametrize("indent", [None, 1], ids=["one line", "many lines"])
@pytest.mark.parametrize("name", ["rows.json", "rows.json.gz"])
def test_a_json_array_is_read_after_a_bom_or_blank_lines(tmp_path: Path, prefix: bytes, indent: int | None, name: str):
    lines = task(tmp_path, json.dumps(GOOD), json.dumps(GOOD))
    raw = prefix + json.dumps([GOOD, GOOD], indent=indent).encode() + b"\n\n"
    (tmp_path / name).write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
    assert load_messages_items(lines.model_copy(update={"train": tmp_path / name})) == load_messages_items(lines)


def test_an_invalid_element_of_an_array_is_reported_by_index(tmp_path: Path):
    (tmp_path / "rows.json").write_bytes(b"\xef\xbb\xbf\n" + json.dumps([GOOD, 3]).encode())
    with pytest.raises(UserError, match=r"task\.train: .*rows\.json row 2: found int"):
        load_messages_items(task(tmp_path).model_copy(update={"train": tmp_path / "rows.json"}))
