"""Readers for user files: JSONL, JSON, CSV, Parquet, Arrow, and folders of them. An invalid row is returned as a ``BadRow``."""

import codecs
import csv
import gzip
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from io import TextIOWrapper
from pathlib import Path
from typing import Any, BinaryIO, cast

import pyarrow as pa
import pyarrow.parquet as pq

from delia_ray.core.errors import UserError
from delia_ray.core.fingerprint import fingerprint, hash_file

Row = dict[str, Any]
_BATCH_ROWS = 1000
_METADATA_FILES = {"state.json", "dataset_info.json", "dataset_infos.json", "dataset_dict.json"}
_UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")
"""First bytes of a file in UTF-16 or UTF-32."""


@dataclass(frozen=True)
class BadRow:
    """An invalid row of a file."""

    problem: str
    raw: str
    """Its text, as far as it can be decoded."""


def parse_rows(file: Path, key: str) -> Iterator[tuple[str, Row | BadRow]]:
    """Yield each row of a file with its location, such as ``task.train: rows.jsonl line 3``, in batches of a thousand rows.

    A JSON array is read as a whole. Text can be compressed: ``.jsonl.gz``, ``.json.gz``, ``.csv.gz``.

    Raises:
        UserError: the file cannot be read, is in an unsupported format, or is not UTF-8.
    """
    reader = _find_reader(file)
    if reader is None:
        raise UserError(f"{key}: {file} ends in {file.suffix!r}; use .jsonl, .json, .csv (also with .gz), .parquet or .arrow")
    try:
        if reader not in (_read_parquet, _read_arrow):
            _check_not_utf16(file, key)
        for position, row in reader(file):
            yield f"{key}: {file} {position}", row
    except (EOFError, zlib.error) as error:
        raise UserError(f"{key}: {file} is not a whole gzip file ({error}); compress it again") from None
    except OSError as error:
        raise UserError(f"{key}: {file}: {error.strerror or error}; name a file that can be read") from None
    except pa.ArrowInvalid as error:
        name = "Parquet" if reader is _read_parquet else "an Arrow stream"
        raise UserError(f"{key}: {file} is not {name} ({str(error).splitlines()[0]}); name a Parquet or JSONL file") from None


def _find_reader(file: Path) -> "_Reader | None":
    """Return the reader for the file's suffix; only text formats can be compressed."""
    compressed = file.suffix == ".gz"
    reader = _READERS.get(Path(file.stem).suffix if compressed else file.suffix)
    return None if compressed and reader in (_read_parquet, _read_arrow) else reader


def _open(file: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(file)) if file.suffix == ".gz" else file.open("rb")


def _check_not_utf16(file: Path, key: str) -> None:
    with _open(file) as stream:
        start = stream.read(4)
    if start[:2] in _UTF16_BOMS or b"\0" in start:
        raise UserError(f"{key}: {file} is written in UTF-16 or UTF-32; save the file as UTF-8")


def find_data_files(path: Path, key: str) -> list[Path]:
    """List the data files at ``path``: the file itself, or the files of a folder sorted by name.

    For a folder from ``datasets.save_to_disk`` these are the files that it lists.

    Raises:
        UserError: there are no data files, or the folder holds several splits.
    """
    if not path.is_dir():
        if not path.exists():
            raise UserError(f"{key}: {path}: No such file or directory; name a file that can be read")
        return [path]
    if (path / "dataset_dict.json").exists():
        splits = ", ".join(sorted(each.parent.name for each in path.glob("*/state.json")))
        raise UserError(f"{key}: {path} holds the splits {splits}; name the folder of one of them, such as {path}/train")
    if (state := path / "state.json").exists():
        return _list_saved_files(state, key)
    visible = (file for file in path.rglob("*") if not any(part.startswith(".") for part in file.relative_to(path).parts))
    files = sorted(file for file in visible if _find_reader(file) and file.name not in _METADATA_FILES)
    if not files:
        raise UserError(f"{key}: {path} holds no file of rows; put .jsonl, .json, .csv, .parquet or .arrow files there")
    return files


def hash_content(path: Path, files: Sequence[Path]) -> str:
    """Hash the bytes of ``files``, which are the file ``path`` or in that folder."""
    if list(files) == [path]:
        return hash_file(path)
    return fingerprint({str(file.relative_to(path)): hash_file(file) for file in files})


def _list_saved_files(state: Path, key: str) -> list[Path]:
    """List the files that ``state.json`` of a saved data set names."""
    try:
        return [state.parent / Path(part["filename"]).name for part in json.loads(state.read_bytes())["_data_files"]]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{key}: {state} is not what datasets.save_to_disk writes ({error!r}); save the data set again") from None


def _read_jsonl(file: Path) -> Iterator[tuple[str, Row | BadRow]]:
    """Read a row from each line, or from each element if the file is a JSON array."""
    with _open(file) as lines:
        is_first = True
        for number, line in enumerate(lines, start=1):
            line = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
            is_first, was_first = is_first and not line.strip(), is_first
            if was_first and (line.strip() == b"[" or (line.lstrip().startswith(b"[") and _is_json(file))):
                yield from _parse_array(line + lines.read())
                return
            if line.strip():
                yield f"line {number}", _parse_line(line)


def _is_json(file: Path) -> bool:
    return Path(file.stem if file.suffix == ".gz" else file.name).suffix == ".json"


def _parse_array(raw: bytes) -> Iterator[tuple[str, Row | BadRow]]:
    values = _parse_json(raw)
    if isinstance(values, BadRow):
        yield "array", values
    else:
        for number, value in enumerate(cast(list[Any], values), start=1):
            yield f"row {number}", _check_row(value, json.dumps(value, ensure_ascii=False))


def _parse_line(line: bytes) -> Row | BadRow:
    value = _parse_json(line)
    return value if isinstance(value, BadRow) else _check_row(value, line.decode("utf-8-sig").strip())


def _check_row(value: object, raw: str) -> Row | BadRow:
    return cast(Row, value) if isinstance(value, dict) else BadRow(f"found {type(value).__name__}", raw)


def _parse_json(raw: bytes) -> Any:
    """Parse JSON; return a ``BadRow`` if it is invalid."""
    try:
        return json.loads(raw.decode("utf-8-sig"), object_pairs_hook=_refuse_duplicate_keys)
    except UnicodeDecodeError as error:
        return BadRow(f"not UTF-8 ({error.reason} at byte {error.start + 1}: save the file as UTF-8)", raw.decode(errors="replace").strip())
    except (ValueError, RecursionError) as error:
        return BadRow(f"not valid JSON ({error})", raw.decode(errors="replace").strip())


def _refuse_duplicate_keys(pairs: list[tuple[str, Any]]) -> Row:
    """Build an object; refuse duplicate keys, of which ``json`` would silently keep the last."""
    row = dict(pairs)
    if len(row) < len(pairs):
        duplicate = next(name for index, (name, _) in enumerate(pairs) if name in dict(pairs[:index]))
        raise ValueError(f"the key {duplicate!r} occurs twice")
    return row


def _read_csv(file: Path) -> Iterator[tuple[str, Row | BadRow]]:
    """Read rows with the column names of the first line; an empty cell is None. The location of a row is its last line."""
    with TextIOWrapper(_open(file), encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
        reader = csv.reader(stream, strict=True)
        header: list[str] | None = None
        while True:
            try:
                cells = next(reader, None)
            except csv.Error as error:
                yield f"line {reader.line_num}", BadRow(f"not valid CSV ({error})", "")
                continue
            if cells is None:
                return
            if header is None:
                header = cells
            elif cells:
                yield f"line {reader.line_num}", _parse_cells(header, cells)


def _parse_cells(header: Sequence[str], cells: Sequence[str]) -> Row | BadRow:
    raw = ",".join(cells)
    if raw.encode(errors="surrogateescape").decode(errors="replace") != raw:
        return BadRow("not UTF-8 (save the file as UTF-8)", raw.encode(errors="surrogateescape").decode(errors="replace"))
    if len(cells) != len(header):
        return BadRow(f"found {len(cells)} cells where the first line names {len(header)}", raw)
    return dict(zip(header, (cell or None for cell in cells), strict=True))


def _read_parquet(file: Path) -> Iterator[tuple[str, Row | BadRow]]:
    with pq.ParquetFile(file) as parquet:
        yield from _number_rows(parquet.iter_batches(_BATCH_ROWS))


def _read_arrow(file: Path) -> Iterator[tuple[str, Row | BadRow]]:
    with ExitStack() as stack:
        stream = stack.enter_context(pa.ipc.open_stream(stack.enter_context(pa.memory_map(str(file)))))
        yield from _number_rows(stream)


def _number_rows(batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[str, Row | BadRow]]:
    number = 0
    for batch in batches:
        for start in range(0, batch.num_rows, _BATCH_ROWS):
            for row in _convert_rows(batch.slice(start, _BATCH_ROWS)):
                number += 1
                yield f"row {number}", row


def _convert_rows(batch: pa.RecordBatch) -> list[Row | BadRow]:
    """Convert a batch to rows; a row that is not UTF-8 is a ``BadRow``."""
    try:
        return batch.to_pylist()
    except UnicodeDecodeError as error:
        if batch.num_rows == 1:
            return [BadRow(f"not UTF-8 ({error.reason})", "")]
        return [row for index in range(batch.num_rows) for row in _convert_rows(batch.slice(index, 1))]


_Reader = Callable[[Path], Iterator[tuple[str, Row | BadRow]]]
_READERS: Mapping[str, _Reader] = {
    ".jsonl": _read_jsonl,
    ".json": _read_jsonl,
    ".csv": _read_csv,
    ".parquet": _read_parquet,
    ".arrow": _read_arrow,
}
