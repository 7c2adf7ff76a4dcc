from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from delia_ray.synthesis.filtering.dedup import split_rows

IDS = ["0a", "magpie-00000001", "magpie-00000002", "magpie-00000010", "q", "row"]
SCHEMA = pa.schema([("row_id", pa.string()), ("text", pa.string())])


def rows(*values: tuple[int, str, str]) -> pa.Table:
    return pa.Table.from_pylist(
        [
            {"row_id": IDS[n], "text": text, "reason": reason, "scope": "", "prompt_tokens": 2, "answer_tokens": 3}
            for n, text, reason in values
        ]
    )


def test_each_row_goes_one_way_once_and_of_equal_texts_the_smallest_id_stays(tmp_path: Path):
    filtered, out = tmp_path / "filtered", tmp_path / "out"
    filtered.mkdir()
    out.mkdir()
    pq.write_table(rows((4, "Bees dance.", ""), (0, "bees dance.", "loop"), (5, "Wool.", ""), (3, "Salt.", "")), filtered / "0.parquet")
    pq.write_table(rows((4, "Bees dance.", ""), (2, "BEES  dance.", ""), (1, "wool.", ""), (3, "Salt.", "")), filtered / "1.parquet")
    counts = split_rows(filtered, out, "answer", SCHEMA, lambda row: {name: row[name] for name in SCHEMA.names})
    assert counts == {"rows": 3, "rejected": 3, "prompt_tokens": 12, "answer_tokens": 18}
    assert set(pq.read_table(out / "kept")["row_id"].to_pylist()) == {IDS[1], IDS[2], IDS[3]}
    reasons = {row["row_id"]: row["reason"] for row in pq.read_table(out / "rejects").to_pylist()}
    assert reasons == {IDS[0]: "loop", IDS[4]: "duplicate", IDS[5]: "duplicate"}


def test_no_row_at_all_is_no_error(tmp_path: Path):
    filtered, out = tmp_path / "filtered", tmp_path / "out"
    filtered.mkdir()
    out.mkdir()
    pq.write_table(rows((0, "", "empty")).slice(0, 0), filtered / "0.parquet")
    assert split_rows(filtered, out, "query", SCHEMA, dict)["rows"] == 0
