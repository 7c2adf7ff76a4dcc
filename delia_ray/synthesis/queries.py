"""Queries that the user brings, judged row by row. Only the ids of the rows are held."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from delia_ray.errors import UserError
from delia_ray.models.control_tokens import ControlTokens
from delia_ray.readers import BadRow, parsed_rows
from delia_ray.records import Query, Reject, row_id
from delia_ray.synthesis.filters import refuse_query
from delia_ray.synthesis.query_config import Columns
from delia_ray.synthesis.verdicts import Verdict
from delia_ray.tasks.messages import unusable_text

_MAX_CHARACTERS = 50_000
"""No context of a model holds a longer query."""
_FIELDS = tuple(Columns.model_fields)


@dataclass(frozen=True)
class UserRows:
    """Files of rows, and how to speak of them."""

    key: str
    """The setting that names them, such as ``synthesize.queries.path``."""
    place: Path
    """The file or folder."""
    files: tuple[Path, ...]
    columns: Columns


@dataclass
class _Tally:
    total: int = 0
    kept: int = 0
    broken: int = 0
    first_broken: str = ""
    reasons: Counter[str] = field(default_factory=Counter[str])
    seen: set[str] = field(default_factory=set[str])
    """Names of columns that occurred."""


def judged_queries(rows: UserRows, control: ControlTokens, error_budget: float) -> Iterator[Verdict]:
    """Each row of the files as a query, or as a reject where it cannot be used.

    Args:
        control: finds the chat template's own tokens, which text must not smuggle in.
        error_budget: share of rows that may be no rows at all.

    Raises:
        UserError: after the last row: the files are not usable, a column is nowhere, or more rows are broken than the budget allows.
    """
    tally, ids = _Tally(), set[str]()
    for spot, raw in _spots(rows):
        tally.total += 1
        tally.seen.update(() if isinstance(raw, BadRow) else raw)
        row = raw if isinstance(raw, BadRow) else {name: raw.get(getattr(rows.columns, name)) for name in _FIELDS}
        problem = _problem(row, rows.columns)
        reason = problem or next((why for text in _texts(row) if (why := _refused(text, control))), None)
        if not reason and (query := _query(row))["query_id"] not in ids:
            ids.add(query["query_id"])
            tally.kept += 1
            yield "kept", query
            continue
        if problem and not tally.broken:
            tally.first_broken = f"{spot}: {problem}"
        tally.broken += bool(problem)
        tally.reasons[reason or "duplicate"] += 1
        yield "rejects", _reject(spot, reason or "duplicate", raw)
    _check(rows, tally, error_budget)


def _spots(rows: UserRows) -> Iterator[tuple[str, dict[str, Any] | BadRow]]:
    """Rows under names such as ``line 3``, or ``part.csv line 3`` where there are several files."""
    for file in rows.files:
        shown = "" if file == rows.place else f"{file.name} "
        for where, row in parsed_rows(file, rows.key):
            yield shown + where.removeprefix(f"{rows.key}: {file} "), row


def _problem(row: dict[str, Any] | BadRow, columns: Columns) -> str | None:
    if isinstance(row, BadRow):
        return row.problem
    for name, value in row.items():
        if (value is not None or name == "query") and (problem := unusable_text(value)):
            return f"`{getattr(columns, name)}` is {problem}"
    return None


def _texts(row: Any) -> list[str]:
    return [text for text in row.values() if text is not None]


def _refused(text: str, control: ControlTokens) -> str | None:
    if len(text) > _MAX_CHARACTERS:
        return f"longer than {_MAX_CHARACTERS} characters"
    return refuse_query(text, True, control)


def _reject(spot: str, reason: str, row: dict[str, Any] | BadRow) -> Reject:
    raw = row.raw if isinstance(row, BadRow) else ascii(row)
    return {"row_id": spot, "step": "query", "reason": reason[:200], "text": raw.replace("\0", "\\0")}


def _query(row: Any) -> Query:
    return {"query_id": row_id("file", row["query"]), "topic": row["topic"] or "", "query": row["query"], "reference": row["reference"]}


def _check(rows: UserRows, tally: _Tally, budget: float) -> None:
    named = {name: getattr(rows.columns, name) for name in _FIELDS}
    usual = Columns()
    if not tally.total:
        raise UserError(f"{rows.key}: {rows.place} is empty; give it at least one row with `{rows.columns.query}`")
    for name, column in named.items():
        if tally.seen and column not in tally.seen and column != getattr(usual, name):
            found = ", ".join(map(repr, sorted(tally.seen)[:20]))
            key = f"{rows.key.rpartition('.')[0]}.columns.{name}"
            raise UserError(f"{key}: no row of {rows.place} has a column {column!r}, found {found}; name one of these")
    if tally.broken and (tally.broken > budget * tally.total or not tally.kept):
        raise UserError(
            f"{rows.key}: {rows.place} {tally.first_broken} ({tally.broken} of {tally.total} rows are broken, more than "
            f"synthesize.error_budget={budget:g}); {_way_out(rows, tally)}"
        )
    if not tally.kept:
        reasons = ", ".join(f"{reason} ({count})" for reason, count in tally.reasons.most_common(3))
        raise UserError(f"{rows.key}: no row of {rows.place} can be used: {reasons}; give it at least one row with a plain `query`")


def _way_out(rows: UserRows, tally: _Tally) -> str:
    if rows.columns.query in tally.seen or not tally.seen:
        return "mend them"
    return f"say which of {', '.join(map(repr, sorted(tally.seen)[:20]))} is the query with {rows.key.rpartition('.')[0]}.columns.query"
