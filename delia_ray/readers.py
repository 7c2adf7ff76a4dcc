"""Rows of files that users bring: JSONL, CSV, Parquet, Arrow, and folders of them. What is no row comes as a ``BadRow``."""

import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from delia_ray.errors import UserError

Row = dict[str, Any]
_BATCH_ROWS = 1000
_ABOUT_DATA = {"state.json", "dataset_info.json", "dataset_infos.json", "dataset_dict.json"}


@dataclass(frozen=True)
class BadRow:
    """What stands where a row should."""

    problem: str
    raw: str
    """What stands there, as far as it can be shown."""


def parsed_rows(file: Path, key: str) -> Iterator[tuple[str, Row | BadRow]]:
    """Each row of a file with a name for it, such as ``task.train: rows.jsonl line 3``; a thousand rows are held at a time.

    Raises:
        UserError: the file cannot be read or is of another format.
    """
    reader = _READERS.get(file.suffix)
    if reader is None:
        raise UserError(f"{key}: {file} ends in {file.suffix!r}; use .jsonl, .csv, .parquet or .arrow")
    unit = "line" if reader in (_jsonl, _csv) else "row"
    try:
        for number, row in reader(file):
            yield f"{key}: {file} {unit} {number}", row
    except OSError as error:
        raise UserError(f"{key}: {file}: {error.strerror or error}; name a file that can be read") from None
    except pa.ArrowInvalid as error:
        name = "Parquet" if reader is _parquet else "an Arrow stream"
        raise UserError(f"{key}: {file} is not {name} ({str(error).splitlines()[0]}); name a Parquet or JSONL file") from None


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
    files = sorted(file for file in visible if file.suffix in _READERS and file.name not in _ABOUT_DATA)
    if not files:
        raise UserError(f"{key}: {place} holds no file of rows; put .jsonl, .csv, .parquet or .arrow files there")
    return files


def _saved_files(state: Path, key: str) -> list[Path]:
    try:
        return [state.parent / Path(part["filename"]).name for part in json.loads(state.read_bytes())["_data_files"]]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{key}: {state} is not what datasets.save_to_disk writes ({error!r}); save the data set again") from None


def _jsonl(file: Path) -> Iterator[tuple[int, Row | BadRow]]:
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if line.strip():
                yield number, _object(line)


def _object(line: bytes) -> Row | BadRow:
    raw = line.decode(errors="replace").strip()
    try:
        row: object = json.loads(line)
    except (ValueError, RecursionError) as error:
        return BadRow(f"not valid JSON ({error})", raw)
    return cast(Row, row) if isinstance(row, dict) else BadRow(f"found {type(row).__name__}", raw)


def _csv(file: Path) -> Iterator[tuple[int, Row | BadRow]]:
    """Rows under the names of the first line; an empty cell is null. A row is named by its last line."""
    with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
        reader = csv.reader(stream, strict=True)
        header: list[str] | None = None
        while True:
            try:
                cells = next(reader, None)
            except csv.Error as error:
                yield reader.line_num, BadRow(f"not valid CSV ({error})", "")
                continue
            if cells is None:
                return
            if header is None:
                header = cells
            elif cells:
                yield reader.line_num, _record(header, cells)


def _record(header: Sequence[str], cells: Sequence[str]) -> Row | BadRow:
    raw = ",".join(cells)
    if raw.encode(errors="surrogateescape").decode(errors="replace") != raw:
        return BadRow("not valid UTF-8", raw.encode(errors="surrogateescape").decode(errors="replace"))
    if len(cells) != len(header):
        return BadRow(f"found {len(cells)} cells where the first line names {len(header)}", raw)
    return dict(zip(header, (cell or None for cell in cells), strict=True))


def _parquet(file: Path) -> Iterator[tuple[int, Row | BadRow]]:
    with pq.ParquetFile(file) as opened:
        yield from _numbered(opened.iter_batches(_BATCH_ROWS))


def _arrow(file: Path) -> Iterator[tuple[int, Row | BadRow]]:
    with ExitStack() as stack:
        stream = stack.enter_context(pa.ipc.open_stream(stack.enter_context(pa.memory_map(str(file)))))
        yield from _numbered(stream)


def _numbered(batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[int, Row | BadRow]]:
    number = 0
    for batch in batches:
        for start in range(0, batch.num_rows, _BATCH_ROWS):
            for row in _rows(batch.slice(start, _BATCH_ROWS)):
                number += 1
                yield number, row


def _rows(batch: pa.RecordBatch) -> list[Row | BadRow]:
    try:
        return batch.to_pylist()
    except UnicodeDecodeError as error:
        if batch.num_rows == 1:
            return [BadRow(f"not valid UTF-8 ({error.reason})", "")]
        return [row for index in range(batch.num_rows) for row in _rows(batch.slice(index, 1))]


_READERS = {".jsonl": _jsonl, ".json": _jsonl, ".csv": _csv, ".parquet": _parquet, ".arrow": _arrow}
