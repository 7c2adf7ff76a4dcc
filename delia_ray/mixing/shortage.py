"""What to say of a pool that is too small: what its rows were lost to, and what would fill it."""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq

from delia_ray.artifacts import DATA, MANIFEST, Manifest
from delia_ray.errors import UserError

_UNITS = {"queries": "queries", "diverse": "answers", "clean": "exchanges"}
_TOP_REASONS = 3
_SPARE = 1.1
"""Of the rows that should be enough, since the next ones may fare worse."""


@dataclass(frozen=True)
class Pool:
    """A pool as an arm asks for it, and the settings that would change what is asked."""

    folder: Path
    """Holds ``queries``, ``diverse`` and ``clean``."""
    rows: int
    """Diverse rows that are left."""
    queries_key: str = "synthesize.queries"
    has_number: bool = True
    """Whether the number of queries is a setting. Otherwise they are the user's own rows."""


def check_pool_size(pool: Pool, wanted: int, task_rows: int, ratio: float, ratio_key: str = "mix.ratio") -> None:
    """Refuse a pool that cannot fill the ratio, instead of capping it in silence.

    Raises:
        UserError: saying how many rows are missing, what was left out, and what would do.
    """
    if pool.rows >= wanted:
        return
    lost = _set_aside(pool.folder)
    raise UserError(
        f"{ratio_key}={ratio:g} needs {wanted} diverse rows, but the pool holds {pool.rows}: {wanted - pool.rows} are missing; "
        + (f"set aside were {lost}; " if lost else "")
        + f"{_more(pool, wanted)}, or lower {ratio_key} to {math.floor(100 * pool.rows / task_rows) / 100:g}"
    )


def _more(pool: Pool, wanted: int) -> str:
    asked = next((rows for folder, rows in _steps(pool.folder) if folder.name == "queries"), 0)
    enough = f" to {math.ceil(asked * wanted / pool.rows * _SPARE)}" if asked and pool.rows else ""
    if pool.has_number:
        return f"raise {pool.queries_key}.rows{enough} (what is drawn is kept)"
    return f"give {pool.queries_key} more rows{enough and f', {enough[4:]} in all'}"


def _set_aside(folder: Path) -> str:
    """What each step left out, with the commonest reasons: ``180 of 361 answers (truncated 171, loop 9)``."""
    told = (_told(step, rows) for step, rows in _steps(folder) if rows)
    return ", ".join(filter(None, told))


def _steps(folder: Path) -> Iterator[tuple[Path, int]]:
    """Each finished step, and the rows it was given."""
    for name in _UNITS:
        if (folder / name / MANIFEST).exists():
            counts = Manifest.model_validate_json((folder / name / MANIFEST).read_text()).counts
            yield folder / name, int(counts["rows"] + counts["rejected"])


def _told(step: Path, rows: int) -> str:
    reasons: Counter[str] = Counter()
    for file in sorted((step / DATA / "rejects").glob("*.parquet")):
        reasons.update(_kind(reason) for reason in pq.read_table(file, columns=["reason"])["reason"].to_pylist())
    top = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common(_TOP_REASONS))
    return f"{reasons.total()} of {rows} {_UNITS[step.name]} ({top})" if top else ""


def _kind(reason: str) -> str:
    """A reason without the row or the message that it names."""
    for name in (" of ", ": ", " as "):
        reason = reason.partition(name)[0]
    return reason
