"""Near-duplicates of a pool on a cluster. Buckets meet in a task for each band, links in one; the driver sees file names and counts."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray
import ray.data
from numpy.typing import NDArray

from delia_ray.mixing.config import Deduplicate
from delia_ray.mixing.meaning import alike, planes_for, runs
from delia_ray.mixing.minhash import ROWS_AT_ONCE, Bands, Places, bands_for, candidates, clusters, jaccard
from delia_ray.mixing.sketches import Sketches, key_of, read_arrow, write_arrow, write_sketches, write_vectors
from delia_ray.runtime import one_core

_ROWS_PER_SHARE = 8_000_000
_ROWS_PER_SKETCH = 2**14


@dataclass(frozen=True)
class Duplicates:
    """Where the repeats are listed, and how many there are.

    Attributes:
        file: Arrow; ``row_id`` of each row that repeats another, its ``key``, ascending, and ``kept``, the id of the row that stays.
        sizes: how many clusters of 2, 3, ... rows there are.
        relation: what such a row is of the one that stays.
    """

    file: Path
    sizes: dict[int, int]
    relation: str

    @property
    def rows(self) -> int:
        """How many rows repeat others."""
        return sum((size - 1) * count for size, count in self.sizes.items())

    def reasons(self, row_ids: Sequence[str]) -> list[str]:
        """Why each row is left out; empty where it is not."""
        found = read_arrow(self.file)
        keys, wanted = found["key"].to_numpy(), np.array([key_of(row_id) for row_id in row_ids], dtype=np.int64)
        places = np.searchsorted(keys, wanted)
        repeats = np.flatnonzero(keys[np.minimum(places, len(keys) - 1)] == wanted) if len(keys) else []
        reasons = [""] * len(row_ids)
        for row in repeats:
            reasons[row] = f"{self.relation} {found['kept'][int(places[row])]}"
        return reasons


def find_duplicates(rows: ray.data.Dataset, config: Deduplicate, scratch: Path) -> Duplicates:
    """Rows whose texts reach ``config.similarity``, also by way of others, form a cluster; all but the one with the smallest key repeat it.

    Args:
        rows: ``row_id``, unique, and ``text``.
        scratch: a folder that every node sees; it takes 8 bytes a word and 0.2 KB a row. A task
            holds some 50 bytes for each of 8 million rows.
    """
    bands = bands_for(config.similarity)
    return _found(rows, partial(_word_sketch, bands, scratch), bands, partial(_same_words, config.similarity), "near-duplicate of", scratch)


def find_paraphrases(rows: ray.data.Dataset, count: int, cosine: float, scratch: Path) -> Duplicates:
    """As ``find_duplicates``, for rows whose vectors have at least this cosine (SemDeDup, arXiv 2303.09540).

    Args:
        rows: ``row_id``, unique, and ``vector``.
        count: how many there are, about.
        scratch: a folder that every node sees; it takes 2 bytes a dimension and 0.2 KB a row.
    """
    planes = planes_for(cosine, count)
    return _found(rows, partial(_vector_sketch, planes, scratch), planes, partial(_same_way, cosine), "says the same as", scratch)


_Sketch = Callable[[pa.Table], Path]
"""Writes one file of what is compared of rows."""
_Link = Callable[[Sketches, NDArray[np.uint64], Places], Iterator[NDArray[np.int64]]]
"""Pairs of places that are alike, among those given with their buckets."""


def _found(rows: ray.data.Dataset, sketch: _Sketch, bands: Bands, link: _Link, relation: str, scratch: Path) -> Duplicates:
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    sketched = rows.map_batches(partial(_sketched, sketch), batch_size=_ROWS_PER_SKETCH, batch_format="pyarrow", **one_core())
    written = sorted((row["file"], row["rows"]) for row in sketched.take_all())
    sketches = Sketches([Path(file) for file, _ in written])
    shares = 1 + sum(count for _, count in written) // _ROWS_PER_SHARE
    join = _remote(_links)
    links = [join.remote(sketches, link, band, share, shares, scratch) for band in range(bands.count) for share in range(shares)]
    return ray.get(_remote(_parted).remote(sketches, ray.get(links), relation, scratch))


def _remote(function: Any) -> Any:
    return ray.remote(function).options(**one_core())


def _sketched(sketch: _Sketch, rows: pa.Table) -> pa.Table:
    return pa.table({"file": [str(sketch(rows))], "rows": [len(rows)]})


def _word_sketch(bands: Bands, scratch: Path, rows: pa.Table) -> Path:
    return write_sketches(rows["row_id"].to_pylist(), rows["text"].to_pylist(), bands, scratch)


def _vector_sketch(planes: Bands, scratch: Path, rows: pa.Table) -> Path:
    return write_vectors(rows["row_id"].to_pylist(), np.stack(rows["vector"].to_numpy()), planes, scratch)


def _links(sketches: Sketches, link: _Link, band: int, share: int, shares: int, scratch: Path) -> Path:
    """Write the pairs of places that share a bucket of ``band`` and are alike. A share takes the buckets of one remainder."""
    bucket = sketches.column(str(band)).astype(np.uint64)
    mine = np.flatnonzero(bucket % np.uint64(shares) == share) if shares > 1 else np.arange(len(bucket))
    file = scratch / f"links-{band}-{share}.npy"
    np.save(file, np.concatenate([np.empty((0, 2), dtype=np.int64), *link(sketches, bucket[mine], mine)]))
    return file


def _same_words(similarity: float, sketches: Sketches, bucket: NDArray[np.uint64], mine: Places) -> Iterator[NDArray[np.int64]]:
    left, right = (mine[side] for side in candidates(bucket, sketches.column("key")[mine]))
    for start in range(0, len(left), ROWS_AT_ONCE):
        pairs = np.stack([left[start : start + ROWS_AT_ONCE], right[start : start + ROWS_AT_ONCE]], axis=1)
        places, numbers = np.unique(pairs, return_inverse=True)
        first, second = numbers.reshape(pairs.shape).T
        yield pairs[jaccard(sketches.shingles(places), first, second) >= similarity]


def _same_way(cosine: float, sketches: Sketches, bucket: NDArray[np.uint64], mine: Places) -> Iterator[NDArray[np.int64]]:
    for run in runs(bucket, sketches.column("key")[mine]):
        places = np.sort(mine[run])
        left, right = alike(sketches.vectors(places), cosine)
        yield np.stack([places[left], places[right]], axis=1)


def _parted(sketches: Sketches, links: Sequence[Path], relation: str, scratch: Path) -> Duplicates:
    """Write which rows repeat which."""
    pairs = np.concatenate([np.load(file) for file in links])
    places, numbers = np.unique(pairs, return_inverse=True)
    order = np.argsort(sketches.take("key", places).to_numpy())
    ranks = np.argsort(order)
    left, right = ranks[numbers.reshape(pairs.shape)].T
    roots = clusters(left, right, len(places))
    repeats = np.flatnonzero(roots != np.arange(len(roots)))
    columns = {
        "key": sketches.take("key", places).take(pa.array(order[repeats])),
        "row_id": sketches.take("row_id", places).take(pa.array(order[repeats])),
        "kept": sketches.take("row_id", places).take(pa.array(order[roots[repeats]])),
    }
    sizes, counts = np.unique(np.unique(roots, return_counts=True)[1], return_counts=True)
    file = write_arrow(pa.table(columns), scratch / "repeats.arrow")
    return Duplicates(file, dict(zip(sizes.tolist(), counts.tolist(), strict=True)), relation)
