"""Check that a pool has enough diverse rows, and explain a shortage: where rows were rejected, and which setting would fill the pool."""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from delia_ray.core.artifacts import DATA, MANIFEST, Manifest
from delia_ray.core.errors import UserError
from delia_ray.core.storage.objects import list_files
from delia_ray.core.storage.tables import read_table

_UNITS = {"queries": "queries", "diverse": "answers", "clean": "exchanges"}
_TOP_REASONS = 3
_SAFETY_FACTOR = 1.1
"""The advised number of queries is this many times the one that should be enough, since more of the next rows may be rejected."""


@dataclass(frozen=True)
class DiversePool:
    """A pool of diverse rows that an arm takes rows from, and the settings that change its size."""

    folder: Path
    """Holds the artifacts ``queries``, ``diverse`` and ``clean``."""
    rows: int
    """Diverse rows in the pool."""
    queries_key: str = "synthesize.queries"
    has_number: bool = True
    """Whether the number of queries is a setting. Otherwise they are the user's own rows."""


def check_pool_size(pool: DiversePool, needed: int, task_rows: int, ratio: float, ratio_key: str = "mix.ratio") -> None:
    """Refuse a pool with fewer rows than the ratio needs, instead of capping the ratio silently.

    Args:
        pool: the pool and its settings.
        needed: diverse rows that the ratio asks for.
        task_rows: training rows of the task.
        ratio: diverse rows for each task row.
        ratio_key: name of the setting that holds ``ratio``.

    Raises:
        UserError: says how many rows are missing, what was rejected, and which setting helps.
    """
    if pool.rows >= needed:
        return
    rejected = _describe_rejects(pool.folder)
    raise UserError(
        f"{ratio_key}={ratio:g} needs {needed} diverse rows, but the pool holds {pool.rows}: {needed - pool.rows} are missing; "
        + (f"rejected were {rejected}; " if rejected else "")
        + f"{_suggest_more_queries(pool, needed)}, or lower {ratio_key} to {math.floor(100 * pool.rows / task_rows) / 100:g}"
    )


def _suggest_more_queries(pool: DiversePool, needed: int) -> str:
    queries = next((rows for folder, rows in _read_steps(pool.folder) if folder.name == "queries"), 0)
    enough = math.ceil(queries * needed / pool.rows * _SAFETY_FACTOR) if queries and pool.rows else None
    if pool.has_number:
        return f"raise {pool.queries_key}.rows{'' if enough is None else f' to {enough}'} (generated rows are kept)"
    return f"give {pool.queries_key} more rows{'' if enough is None else f', {enough} in all'}"


def _describe_rejects(folder: Path) -> str:
    """Describe the rejects of each step with their most common reasons: ``180 of 361 answers (truncated 171, loop 9)``."""
    parts = (_describe_step(step, rows) for step, rows in _read_steps(folder) if rows)
    return ", ".join(filter(None, parts))


def _read_steps(folder: Path) -> Iterator[tuple[Path, int]]:
    """Yield the folder of each finished step, and the number of its input rows."""
    for name in _UNITS:
        if (folder / name / MANIFEST).exists():
            counts = Manifest.model_validate_json((folder / name / MANIFEST).read_text()).counts
            yield folder / name, int(counts["rows"] + counts["rejected"])


def _describe_step(step: Path, rows: int) -> str:
    reasons: Counter[str] = Counter()
    for file in list_files(step / DATA / "rejects", "*.parquet"):
        reasons.update(_generalize_reason(reason) for reason in read_table(file, columns=["reason"])["reason"].to_pylist())
    top = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common(_TOP_REASONS))
    return f"{reasons.total()} of {rows} {_UNITS[step.name]} ({top})" if top else ""


def _generalize_reason(reason: str) -> str:
    """Cut from a reason the row or the message that it names."""
    for separator in (" of ", ": ", " as "):
        reason = reason.partition(separator)[0]
    return reason
