import pyarrow as pa

from delia_ray.synthesis.requests import PADDING, REQUEST_SCHEMA, new_request, pad_requests


def test_the_key_covers_everything_that_determines_the_text():
    base = {
        "model": "m",
        "row_id": "r",
        "prompt": "p",
        "prompt_ids": [5],
        "sampling": {"seed": 1, "temperature": 0.7},
        "topic": "t",
        "query": "q",
    }
    changed = [{name: "other"} for name in ("model", "row_id", "prompt", "topic", "query")] + [
        {"sampling": {"seed": 2, "temperature": 0.7}}
    ]
    keys = {new_request(**{**base, **change})["key"] for change in [{}, *changed]}
    assert len(keys) == 7
    assert new_request(**{**base, "sampling": {"temperature": 0.7, "seed": 1}})["key"] == new_request(**base)["key"]


def test_a_batch_is_padded_with_requests_for_one_token():
    requests = [new_request("m", str(number), "p", [5], {"max_tokens": 64, "seed": 1}, topic="t") for number in range(5)]
    table = pa.Table.from_pylist(requests, schema=REQUEST_SCHEMA)
    rows = pad_requests(table, 4).to_pylist()
    assert rows[:5] == requests and len(rows) == 8
    assert {(row["key"], row["sampling"]) for row in rows[5:]} == {(PADDING, '{"max_tokens":1,"seed":1}')}
    assert pad_requests(table, 5).equals(table) and not pad_requests(table.slice(0, 0), 4).num_rows
