"""Queries that the user brings."""

from pathlib import Path

from delia_ray.errors import UserError
from delia_ray.records import Query, row_id
from delia_ray.tasks.messages import read_rows


def file_queries(file: Path) -> list[Query]:
    """The rows of a JSONL or Parquet file: ``query`` (required), ``reference`` and ``topic``. Exact repeats are dropped.

    Raises:
        UserError: the file is not usable or a row has no text in ``query``.
    """
    queries: dict[str, Query] = {}
    for where, row in read_rows(file, "synthesize.queries.path"):
        for field in ("query", "reference", "topic"):
            value = row.get(field)
            if not (isinstance(value, str) and value.strip()) and not (value is None and field != "query"):
                raise UserError(f"{where}: `{field}` is {value!r}; it must be a text that is not empty")
        identifier = row_id("file", row["query"])
        queries[identifier] = {
            "query_id": identifier,
            "topic": row.get("topic") or "",
            "query": row["query"],
            "reference": row.get("reference"),
        }
    if not queries:
        raise UserError(f"synthesize.queries.path: {file} is empty; give it at least one row with `query`")
    return list(queries.values())
