"""Query source of the user's rows, filtered row by row. Only the ids of the rows are held in memory."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from delia_ray.core.errors import UserError
from delia_ray.core.records import Query, Reject, make_row_id
from delia_ray.models.control_tokens import ControlTokens
from delia_ray.synthesis.filtering.filters import reject_query
from delia_ray.synthesis.filtering.writers import FilteredRow
from delia_ray.synthesis.query_config import Columns
from delia_ray.tasks.messages import find_text_problem
from delia_ray.tasks.readers import BadRow, parse_rows

_MAX_CHARACTERS = 50_000
"""A longer query fits into no model's context."""
_FIELDS = tuple(Columns.model_fields)


@dataclass(frozen=True)
class UserRows:
    """Files of the user's rows, the setting that names them and the names of their columns."""

    key: str
    """The setting that names them, such as ``synthesize.queries.path``."""
    path: Path
    """The file or folder."""
    files: tuple[Path, ...]
    columns: Columns


@dataclass
class _RowCounts:
    total: int = 0
    kept: int = 0
    broken: int = 0
    first_broken: str = ""
    """Location and problem of the first broken row."""
    reasons: Counter[str] = field(default_factory=Counter[str])
    """Reasons for rejection."""
    columns: set[str] = field(default_factory=set[str])
    """Names of columns that occurred."""


def filter_queries(rows: UserRows, control: ControlTokens, error_budget: float) -> Iterator[FilteredRow]:
    """Yield each row of the files as a kept query, or as a reject with the reason.

    Args:
        control: finds the chat template's control tokens, which a text must not contain.
        error_budget: share of rows that may be broken.

    Raises:
        UserError: after the last row: the files are not usable, a column is missing, or more rows are broken than the budget allows.
    """
    counts, ids = _RowCounts(), set[str]()
    for location, raw in _read_rows(rows):
        counts.total += 1
        counts.columns.update(() if isinstance(raw, BadRow) else raw)
        row = raw if isinstance(raw, BadRow) else {name: raw.get(getattr(rows.columns, name)) for name in _FIELDS}
        problem = _find_problem(row, rows.columns)
        reason = problem or next(filter(None, (_reject_text(text, control) for text in _list_texts(row))), None)
        if not reason and (query := _to_query(row))["query_id"] not in ids:
            ids.add(query["query_id"])
            counts.kept += 1
            yield "kept", query
            continue
        if problem and not counts.broken:
            counts.first_broken = f"{location}: {problem}"
        counts.broken += bool(problem)
        counts.reasons[reason or "duplicate"] += 1
        yield "rejects", _to_reject(location, reason or "duplicate", raw)
    _check_counts(rows, counts, error_budget)


def _read_rows(rows: UserRows) -> Iterator[tuple[str, dict[str, Any] | BadRow]]:
    """Yield each row with its location, such as ``line 3``, or ``part.csv line 3`` where there are several files."""
    for file in rows.files:
        prefix = "" if file == rows.path else f"{file.name} "
        for location, row in parse_rows(file, rows.key):
            yield prefix + location.removeprefix(f"{rows.key}: {file} "), row


def _find_problem(row: dict[str, Any] | BadRow, columns: Columns) -> str | None:
    if isinstance(row, BadRow):
        return row.problem
    for name, value in row.items():
        if (value is not None or name == "query") and (problem := find_text_problem(value)):
            return f"`{getattr(columns, name)}` is {problem}"
    return None


def _list_texts(row: Any) -> list[str]:
    return [text for text in row.values() if text is not None]


def _reject_text(text: str, control: ControlTokens) -> str | None:
    if len(text) > _MAX_CHARACTERS:
        return f"longer than {_MAX_CHARACTERS} characters"
    return reject_query(text, True, control)


def _to_reject(location: str, reason: str, row: dict[str, Any] | BadRow) -> Reject:
    raw = row.raw if isinstance(row, BadRow) else ascii(row)
    return {"row_id": location, "step": "query", "reason": reason[:200], "text": raw.replace("\0", "\\0")}


def _to_query(row: Any) -> Query:
    return {
        "query_id": make_row_id("file", row["query"]),
        "topic": row["topic"] or "",
        "query": row["query"],
        "reference": row["reference"],
    }


def _check_counts(rows: UserRows, counts: _RowCounts, budget: float) -> None:
    column_names = {name: getattr(rows.columns, name) for name in _FIELDS}
    defaults = Columns()
    if not counts.total:
        raise UserError(f"{rows.key}: {rows.path} is empty; give it at least one row with `{rows.columns.query}`")
    for name, column in column_names.items():
        if counts.columns and column not in counts.columns and column != getattr(defaults, name):
            key = f"{rows.key.rpartition('.')[0]}.columns.{name}"
            raise UserError(f"{key}: no row of {rows.path} has a column {column!r}, found {_list_columns(counts)}; name one of these")
    if counts.broken and (counts.broken > budget * counts.total or not counts.kept):
        raise UserError(
            f"{rows.key}: {rows.path} {counts.first_broken} ({counts.broken} of {counts.total} rows are broken, more than "
            f"synthesize.error_budget={budget:g}); {_suggest_fix(rows, counts)}"
        )
    if not counts.kept:
        reasons = ", ".join(f"{reason} ({count})" for reason, count in counts.reasons.most_common(3))
        raise UserError(f"{rows.key}: no row of {rows.path} can be used: {reasons}; give it at least one row with a plain `query`")


def _list_columns(counts: _RowCounts) -> str:
    return ", ".join(map(repr, sorted(counts.columns)[:20]))


def _suggest_fix(rows: UserRows, counts: _RowCounts) -> str:
    if rows.columns.query in counts.columns or not counts.columns:
        return "fix them"
    return f"say which of {_list_columns(counts)} is the query with {rows.key.rpartition('.')[0]}.columns.query"
