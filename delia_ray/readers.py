"""Rows of files that users bring: JSONL, JSON, CSV, Parquet, Arrow, and folders of them. What is no row comes as a ``BadRow``."""

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

from delia_ray.errors import UserError
from delia_ray.fingerprint import fingerprint, hash_file

Row = dict[str, Any]
_BATCH_ROWS = 1000
_ABOUT_DATA = {"state.json", "dataset_info.json", "dataset_infos.json", "dataset_dict.json"}
_WIDE = (b"\xff\xfe", b"\xfe\xff")
"""How a file in UTF-16 or UTF-32 begins."""


@dataclass(frozen=True)
class BadRow:
    """What stands where a row should."""

    problem: str
    raw: str
    """What stands there, as far as it can be shown."""


def parsed_rows(file: Path, key: str) -> Iterator[tuple[str, Row | BadRow]]:
    """Each row of a file with a name for it, such as ``task.train: rows.jsonl line 3``; a thousand rows are held at a time.

    A JSON array is held as a whole. Text may be compressed: ``.jsonl.gz``, ``.json.gz``, ``.csv.gz``.

    Raises:
        UserError: the file cannot be read or is of another format, or its text is no UTF-8.
    """
    reader = _reader(file)
    if reader is None:
        raise UserError(f"{key}: {file} ends in {file.suffix!r}; use .jsonl, .json, .csv (also with .gz), .parquet or .arrow")
    try:
        if reader not in (_parquet, _arrow):
            _check_not_wide(file, key)
        for place, row in reader(file):
            yield f"{key}: {file} {place}", row
    except (EOFError, zlib.error) as error:
        raise UserError(f"{key}: {file} is not a whole gzip file ({error}); compress it again") from None
    except OSError as error:
        raise UserError(f"{key}: {file}: {error.strerror or error}; name a file that can be read") from None
    except pa.ArrowInvalid as error:
        name = "Parquet" if reader is _parquet else "an Arrow stream"
        raise UserError(f"{key}: {file} is not {name} ({str(error).splitlines()[0]}); name a Parquet or JSONL file") from None


def _reader(file: Path) -> "_Reader | None":
    compressed = file.suffix == ".gz"
    reader = _READERS.get(Path(file.stem).suffix if compressed else file.suffix)
    return None if compressed and reader in (_parquet, _arrow) else reader


def _opened(file: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(file)) if file.suffix == ".gz" else file.open("rb")


def _check_not_wide(file: Path, key: str) -> None:
    with _opened(file) as stream:
        start = stream.read(4)
    if start[:2] in _WIDE or b"\0" in start:
        raise UserError(f"{key}: {file} is written in UTF-16 or UTF-32; save the file as UTF-8")


def data_files(place: Path, key: str) -> list[Path]:
    """The files of rows at ``place``: itself, or those of a folder in order of their names.

    A folder that ``datasets.save_to_disk`` wrote lists its own.

    Raises:
        UserError: nothing is there, or it holds several splits.
    """
    if not place.is_dir():
        if not place.exists():
            raise UserError(f"{key}: {place}: No such file or directory; name a file that can be read")
        return [place]
    if (place / "dataset_dict.json").exists():
        splits = ", ".join(sorted(each.parent.name for each in place.glob("*/state.json")))
        raise UserError(f"{key}: {place} holds the splits {splits}; name the folder of one of them, such as {place}/train")
    if (state := place / "state.json").exists():
        return _saved_files(state, key)
    visible = (file for file in place.rglob("*") if not any(part.startswith(".") for part in file.relative_to(place).parts))
    files = sorted(file for file in visible if _reader(file) and file.name not in _ABOUT_DATA)
    if not files:
        raise UserError(f"{key}: {place} holds no file of rows; put .jsonl, .json, .csv, .parquet or .arrow files there")
    return files


def content_hash(place: Path, files: Sequence[Path]) -> str:
    """A hash of the bytes of ``files``, which are the file ``place`` or stand in that folder."""
    if list(files) == [place]:
        return hash_file(place)
    return fingerprint({str(file.relative_to(place)): hash_file(file) for file in files})


def _saved_files(state: Path, key: str) -> list[Path]:
    try:
        return [state.parent / Path(part["filename"]).name for part in json.loads(state.read_bytes())["_data_files"]]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{key}: {state} is not what datasets.save_to_disk writes ({error!r}); save the data set again") from None


def _jsonl(file: Path) -> Iterator[tuple[str, Row | BadRow]]:
    """A row a line; a file that is one JSON array has a row an element."""
    with _opened(file) as lines:
        is_first = True
        for number, line in enumerate(lines, start=1):
            line = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
            is_first, was_first = is_first and not line.strip(), is_first
            if was_first and (line.strip() == b"[" or (line.lstrip().startswith(b"[") and _is_json(file))):
                yield from _array(line + lines.read())
                return
            if line.strip():
                yield f"line {number}", _object(line)


def _is_json(file: Path) -> bool:
    return Path(file.stem if file.suffix == ".gz" else file.name).suffix == ".json"


def _array(raw: bytes) -> Iterator[tuple[str, Row | BadRow]]:
    values = _value(raw)
    if isinstance(values, BadRow):
        yield "array", values
    else:
        for number, value in enumerate(cast(list[Any], values), start=1):
            yield f"row {number}", _row(value, json.dumps(value, ensure_ascii=False))


def _object(line: bytes) -> Row | BadRow:
    value = _value(line)
    return value if isinstance(value, BadRow) else _row(value, line.decode("utf-8-sig").strip())


def _row(value: object, raw: str) -> Row | BadRow:
    return cast(Row, value) if isinstance(value, dict) else BadRow(f"found {type(value).__name__}", raw)


def _value(raw: bytes) -> Any:
    """What JSON says, or a ``BadRow``."""
    try:
        return json.loads(raw.decode("utf-8-sig"), object_pairs_hook=_unique)
    except UnicodeDecodeError as error:
        return BadRow(f"not UTF-8 ({error.reason} at byte {error.start + 1}: save the file as UTF-8)", raw.decode(errors="replace").strip())
    except (ValueError, RecursionError) as error:
        return BadRow(f"not valid JSON ({error})", raw.decode(errors="replace").strip())


def _unique(pairs: list[tuple[str, Any]]) -> Row:
    """Of an object that names a key twice, most readers would keep the second value without a word."""
    row = dict(pairs)
    if len(row) < len(pairs):
        twice = next(name for place, (name, _) in enumerate(pairs) if name in dict(pairs[:place]))
        raise ValueError(f"the key {twice!r} stands there twice")
    return row


def _csv(file: Path) -> Iterator[tuple[str, Row | BadRow]]:
    """Rows under the names of the first line; an empty cell is null. A row is named by its last line."""
    with TextIOWrapper(_opened(file), encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
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
                yield f"line {reader.line_num}", _record(header, cells)


def _record(header: Sequence[str], cells: Sequence[str]) -> Row | BadRow:
    raw = ",".join(cells)
    if raw.encode(errors="surrogateescape").decode(errors="replace") != raw:
        return BadRow("not UTF-8 (save the file as UTF-8)", raw.encode(errors="surrogateescape").decode(errors="replace"))
    if len(cells) != len(header):
        return BadRow(f"found {len(cells)} cells where the first line names {len(header)}", raw)
    return dict(zip(header, (cell or None for cell in cells), strict=True))


def _parquet(file: Path) -> Iterator[tuple[str, Row | BadRow]]:
    with pq.ParquetFile(file) as opened:
        yield from _numbered(opened.iter_batches(_BATCH_ROWS))


def _arrow(file: Path) -> Iterator[tuple[str, Row | BadRow]]:
    with ExitStack() as stack:
        stream = stack.enter_context(pa.ipc.open_stream(stack.enter_context(pa.memory_map(str(file)))))
        yield from _numbered(stream)


def _numbered(batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[str, Row | BadRow]]:
    number = 0
    for batch in batches:
        for start in range(0, batch.num_rows, _BATCH_ROWS):
            for row in _rows(batch.slice(start, _BATCH_ROWS)):
                number += 1
                yield f"row {number}", row


def _rows(batch: pa.RecordBatch) -> list[Row | BadRow]:
    try:
        return batch.to_pylist()
    except UnicodeDecodeError as error:
        if batch.num_rows == 1:
            return [BadRow(f"not UTF-8 ({error.reason})", "")]
        return [row for index in range(batch.num_rows) for row in _rows(batch.slice(index, 1))]


_Reader = Callable[[Path], Iterator[tuple[str, Row | BadRow]]]
_READERS: Mapping[str, _Reader] = {".jsonl": _jsonl, ".json": _jsonl, ".csv": _csv, ".parquet": _parquet, ".arrow": _arrow}
