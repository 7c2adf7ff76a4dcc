import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from delia_ray.core.errors import UserError
from delia_ray.tasks.readers import BadRow, find_data_files, parse_rows

ROWS = pa.table({"query": ["Why?", "How, then?"], "topic": ["a", None]})


def save(file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".gz":
        file.write_bytes(gzip.compress(save(file.with_suffix("")).read_bytes()))
        return file
    match file.suffix:
        case ".parquet":
            pq.write_table(ROWS, file)
        case ".csv":
            pyarrow.csv.write_csv(ROWS, file)
        case ".arrow":
            with pa.ipc.new_stream(file, ROWS.schema) as stream:
                stream.write_table(ROWS)
        case _:
            file.write_text("\n".join(map(json.dumps, ROWS.to_pylist())))
    return file


@pytest.mark.parametrize("suffix", ["jsonl", "csv", "parquet", "arrow", "jsonl.gz", "csv.gz"])
def test_every_format_gives_the_same_rows(tmp_path: Path, suffix: str):
    rows = [row for _, row in parse_rows(save(tmp_path / f"q.{suffix}"), "k")]
    assert rows == ROWS.to_pylist()


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
def test_text_in_a_table_that_is_not_utf8_is_a_bad_row_and_its_neighbors_are_read(tmp_path: Path, suffix: str):
    column = pa.array([b"Why?", b"\xff\xfe", b"How?"], pa.binary()).view(pa.string())
    table, file = pa.table({"query": column}), tmp_path / f"q.{suffix}"
    if suffix == "parquet":
        pq.write_table(table, file)
    else:
        with pa.ipc.new_stream(file, table.schema) as stream:
            stream.write_table(table)
    rows = [row for _, row in parse_rows(file, "k")]
    assert rows[0] == {"query": "Why?"} and rows[2] == {"query": "How?"}
    assert isinstance(rows[1], BadRow) and "UTF-8" in rows[1].problem


@pytest.mark.parametrize(("name", "message"), [("q.txt", "ends in '.txt'"), ("q.parquet", "not Parquet"), ("q.arrow", "Arrow")])
def test_another_format_is_refused(tmp_path: Path, name: str, message: str):
    (tmp_path / name).write_text("x")
    with pytest.raises(UserError, match=message):
        list(parse_rows(tmp_path / name, "k"))


def test_the_data_files_of_a_folder_are_sorted_by_name(tmp_path: Path):
    files = [save(tmp_path / name) for name in ("a.jsonl", "b/c.parquet", "d.csv")]
    for other in ("dataset_infos.json", "README.md", ".cache/x.jsonl"):
        (tmp_path / other).parent.mkdir(exist_ok=True)
        (tmp_path / other).write_text("{}")
    assert find_data_files(tmp_path, "k") == files


def test_a_saved_data_set_has_the_files_it_lists(tmp_path: Path):
    names = ["data-00001-of-00002.arrow", "data-00000-of-00002.arrow"]
    files = [save(tmp_path / "train" / name) for name in names]
    save(tmp_path / "train" / "cache-0.arrow")
    (tmp_path / "train" / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))
    assert find_data_files(tmp_path / "train", "k") == files
    (tmp_path / "dataset_dict.json").write_text('{"splits": ["train"]}')
    with pytest.raises(UserError, match="holds the splits train; name the folder"):
        find_data_files(tmp_path, "k")


@pytest.mark.parametrize(("folder", "message"), [("nowhere", "No such file"), (".", "holds no file of rows")])
def test_a_folder_without_data_files_is_refused(tmp_path: Path, folder: str, message: str):
    with pytest.raises(UserError, match=message):
        find_data_files(tmp_path / folder, "k")


@pytest.mark.parametrize("name", ["q.json", "q.jsonl", "q.json.gz"])
def test_a_json_array_has_a_row_for_each_element(tmp_path: Path, name: str):
    raw = json.dumps([*ROWS.to_pylist(), 3], indent=1).encode()
    (tmp_path / name).write_bytes(gzip.compress(raw) if name.endswith(".gz") else raw)
    (first, one), (_, two), (last, bad) = parse_rows(tmp_path / name, "k")
    assert [one, two] == ROWS.to_pylist() and first == f"k: {tmp_path / name} row 1"
    assert last.endswith("row 3") and bad == BadRow("found int", "3")


def test_a_file_of_array_lines_is_not_an_array(tmp_path: Path):
    (tmp_path / "q.jsonl").write_text("[1]\n[2]\n")
    assert [row for _, row in parse_rows(tmp_path / "q.jsonl", "k")] == [BadRow("found list", "[1]"), BadRow("found list", "[2]")]


@pytest.mark.parametrize(
    ("name", "raw"), [("q.jsonl.gz", b"x"), ("q.jsonl.gz", gzip.compress(b"{}" * 99, mtime=0)[:20]), ("q.parquet.gz", b"x")]
)
def test_an_invalid_gzip_file_is_refused(tmp_path: Path, name: str, raw: bytes):
    (tmp_path / name).write_bytes(raw)
    with pytest.raises(UserError, match=name) as caught:
        list(parse_rows(tmp_path / name, "k"))
    assert "\n" not in str(caught.value)


def test_a_utf_8_bom_is_ignored(tmp_path: Path):
    (tmp_path / "q.jsonl").write_text(json.dumps({"query": "Wie geht's, Jürgen?"}), encoding="utf-8-sig")
    assert [row for _, row in parse_rows(tmp_path / "q.jsonl", "k")] == [{"query": "Wie geht's, Jürgen?"}]
