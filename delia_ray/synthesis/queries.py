"""Queries that the user brings."""

from collections import Counter
from pathlib import Path
from typing import Any

from delia_ray.errors import UserError
from delia_ray.records import Query, Reject, row_id
from delia_ray.synthesis.filters import refuse_query
from delia_ray.tasks.messages import BadRow, parsed_rows, unusable_text

_MAX_CHARACTERS = 50_000
"""No context of a model holds a longer query."""


def file_queries(file: Path, control_tokens: tuple[str, ...], error_budget: float) -> tuple[list[Query], list[Reject]]:
    """The rows of a JSONL or Parquet file: ``query`` (required), ``reference`` and ``topic``; and the rows that cannot be used.

    Args:
        control_tokens: the chat template's own tokens, which text must not smuggle in.
        error_budget: share of rows that may be no rows at all.

    Raises:
        UserError: the file is not usable, or more of its rows than the budget allows.
    """
    queries: dict[str, Query] = {}
    rejects: list[Reject] = []
    broken: list[str] = []
    for where, row in parsed_rows(file, "synthesize.queries.path"):
        spot = where.removeprefix(f"synthesize.queries.path: {file} ")
        if problem := _problem(row):
            broken.append(f"{spot}: {problem}")
            rejects.append(_reject(spot, problem, row))
        elif reason := next((why for text in _texts(row) if (why := _refused(text, control_tokens))), None):
            rejects.append(_reject(spot, reason, row))
        elif (query := _query(row))["query_id"] in queries:
            rejects.append(_reject(spot, "duplicate", row))
        else:
            queries[query["query_id"]] = query
    total = len(queries) + len(rejects)
    if not total:
        raise UserError(f"synthesize.queries.path: {file} is empty; give it at least one row with `query`")
    if len(broken) > error_budget * total or not queries:
        raise UserError(_too_many(file, broken, rejects, total, error_budget))
    return list(queries.values()), rejects


def _problem(row: dict[str, Any] | BadRow) -> str | None:
    if isinstance(row, BadRow):
        return row.problem
    for field in ("query", "reference", "topic"):
        value = row.get(field)
        if (value is not None or field == "query") and (problem := unusable_text(value)):
            return f"`{field}` is {problem}"
    return None


def _texts(row: Any) -> list[str]:
    return [row[field] for field in ("query", "reference", "topic") if row.get(field) is not None]


def _refused(text: str, control_tokens: tuple[str, ...]) -> str | None:
    if len(text) > _MAX_CHARACTERS:
        return f"longer than {_MAX_CHARACTERS} characters"
    return refuse_query(text, True, control_tokens)


def _reject(spot: str, reason: str, row: dict[str, Any] | BadRow) -> Reject:
    raw = row.raw if isinstance(row, BadRow) else ascii(row)
    return {"row_id": spot, "step": "query", "reason": reason[:200], "text": raw.replace("\0", "\\0")}


def _query(row: Any) -> Query:
    return {
        "query_id": row_id("file", row["query"]),
        "topic": row.get("topic") or "",
        "query": row["query"],
        "reference": row.get("reference"),
    }


def _too_many(file: Path, broken: list[str], rejects: list[Reject], total: int, budget: float) -> str:
    if broken:
        return (
            f"synthesize.queries.path: {file} {broken[0]} ({len(broken)} of {total} rows are broken, more than "
            f"synthesize.error_budget={budget:g}); mend them"
        )
    reasons = ", ".join(f"{reason} ({count})" for reason, count in Counter(row["reason"] for row in rejects).most_common(3))
    return f"synthesize.queries.path: no row of {file} can be used: {reasons}; give it at least one row with a plain `query`"
