"""An artifact and all it was made from, beside the same ones built again."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from delia_ray.core.artifacts import DATA, Artifact, Manifest
from delia_ray.core.fingerprint import hash_file, iter_differences
from delia_ray.core.lineage import read_manifests
from delia_ray.core.storage.transfer import fetch
from delia_ray.evaluation.stored import SCORES_KIND, read_scores
from delia_ray.pipeline.steps import find_step

Sameness = Literal["same bytes", "same rows", "other bytes", "not built"]


@dataclass(frozen=True)
class ArtifactComparison:
    """One artifact as recorded, and as rebuilt."""

    path: str
    """Below the run."""
    fingerprint: str
    changes: tuple[str, ...]
    """Fields of the request that differ, as ``field: recorded -> rebuilt``; empty where the fingerprints are equal."""
    data: Sameness
    exact: bool
    """Whether its rows must be the same: they follow from its request, and its inputs hold the same rows."""
    metric: tuple[str, float] | None = None
    """Of scores: the metric that differs most, and by how much."""

    @property
    def fails(self) -> bool:
        """Whether the reproduction failed here."""
        return bool(self.changes) or self.data == "not built" or (self.exact and self.data == "other bytes")

    def __str__(self) -> str:
        asked = "other request: " + "; ".join(self.changes) if self.changes else f"equal {self.fingerprint}"
        metric = "" if self.metric is None else f"  largest difference of a metric {self.metric[1]:g} ({self.metric[0]})"
        return f"{self.path}  {asked}  {self.data}{metric}"


def compare(run: Path, rebuilt: Path, role: str) -> list[ArtifactComparison]:
    """Every artifact of ``run`` that ``role`` was made from, and itself, beside those at the same places below ``rebuilt``.

    Returns:
        One comparison for each artifact, in the order in which the run finished them.
    """
    before, after = read_manifests(run), read_manifests(rebuilt)
    found: dict[str, ArtifactComparison] = {}
    for path, sources in trace_inputs(before, role).items():
        rows_given = all(found[source].data in ("same bytes", "same rows") for source in sources)
        found[path] = _compare_artifact(run, rebuilt, path, before[path], after.get(path), rows_given)
    return list(found.values())


def trace_inputs(found: Mapping[str, Manifest], role: str) -> dict[str, list[str]]:
    """Return path -> paths of its inputs, for ``role`` and what it was made from, each after its inputs."""
    places: dict[str, list[str]] = {}
    for path, manifest in found.items():
        places.setdefault(manifest.fingerprint, []).append(path)
    ordered: dict[str, list[str]] = {}

    def visit(path: str) -> None:
        arm = Path(path).parent
        inputs = [places[given] for given in found[path].inputs.values() if given in places]
        sources = [next((each for each in equals if Path(each).parent == arm), equals[0]) for equals in inputs]
        for source in sources:
            if source not in ordered:
                visit(source)
        ordered[path] = sources

    visit(role)
    return ordered


def compare_data(before: Path, after: Path) -> Sameness:
    """Whether two ``data`` folders hold the same; shards, whose file names are random, are taken folder by folder."""
    lefts, rights = _files(before), _files(after)
    if lefts == rights:
        pairs = [(name, name) for name in lefts]
    elif [_shape(name) for name in lefts] == [_shape(name) for name in rights]:
        pairs = list(zip(lefts, rights, strict=True))
    else:
        pairs = []
    if len(pairs) == len(lefts) and all(hash_file(before / left) == hash_file(after / right) for left, right in pairs):
        return "same bytes"
    return "same rows" if _same_rows(before, lefts, after, rights) else "other bytes"


def _compare_artifact(
    run: Path, rebuilt: Path, path: str, before: Manifest, after: Manifest | None, rows_given: bool
) -> ArtifactComparison:
    # A wording that a model wrote is sampled.
    exact = rows_given and _is_deterministic(path) and before.request.get("kind") != "model"
    if after is None:
        return ArtifactComparison(path, before.fingerprint, (), "not built", exact)
    identity = {"stage", "request", "inputs"}
    changes = tuple(iter_differences(before.model_dump(mode="json", include=identity), after.model_dump(mode="json", include=identity)))
    data = compare_data(fetch(run / path / DATA), fetch(rebuilt / path / DATA))
    scores = before.kind == after.kind == SCORES_KIND
    metric = _largest(Artifact(run / path, before), Artifact(rebuilt / path, after)) if scores else None
    return ArtifactComparison(path, before.fingerprint, changes, data, exact, metric)


def _is_deterministic(path: str) -> bool:
    found = find_step(path)
    return found is not None and found[0].is_deterministic


def _largest(before: Artifact, after: Artifact) -> tuple[str, float] | None:
    """The metric that differs most. One that only one of the two has, or has a value for, differs without bound."""
    lefts = {name: interval.value for name, interval in read_scores(before).items()}
    rights = {name: interval.value for name, interval in read_scores(after).items()}
    found = {name: _distance(lefts.get(name), rights.get(name)) for name in sorted(lefts.keys() | rights.keys())}
    return max(found.items(), key=lambda item: item[1], default=None)


def _distance(left: float | None, right: float | None) -> float:
    if left is None or right is None:
        return 0.0 if left is right else math.inf
    return abs(left - right)


def _files(data: Path) -> list[Path]:
    return sorted(file.relative_to(data) for file in data.rglob("*") if file.is_file())


def _shape(name: Path) -> Path:
    """``name`` without its random part."""
    return name.with_name("*.parquet") if name.suffix == ".parquet" else name


def _same_rows(before: Path, lefts: Sequence[Path], after: Path, rights: Sequence[Path]) -> bool:
    """Whether the files are equal but for how Parquet wrote their rows, and there are Parquet files at all."""
    others = [[name for name in names if name.suffix != ".parquet"] for names in (lefts, rights)]
    if others[0] != others[1] or any(hash_file(before / name) != hash_file(after / name) for name in others[0]):
        return False
    named = lefts == rights
    tables, rebuilt = _tables(before, lefts, by_name=named), _tables(after, rights, by_name=named)
    if not tables or tables.keys() != rebuilt.keys():
        return False
    return all(_equal(table, rebuilt[name], ordered=named) for name, table in tables.items())


def _tables(data: Path, names: Sequence[Path], *, by_name: bool) -> dict[Path, pa.Table]:
    """Each Parquet file, or all of each folder as one."""
    parts: dict[Path, list[pa.Table]] = {}
    for name in names:
        if name.suffix == ".parquet":
            parts.setdefault(name if by_name else name.parent, []).append(pq.ParquetFile(data / name).read())
    return {name: pa.concat_tables(tables, promote_options="default") for name, tables in parts.items()}


def _equal(left: pa.Table, right: pa.Table, *, ordered: bool) -> bool:
    """Shards come in any order; where order matters, the rows carry a key of it."""
    if left.equals(right):
        return True
    if ordered or left.schema != right.schema or left.num_rows != right.num_rows:
        return False
    return Counter(map(repr, left.to_pylist())) == Counter(map(repr, right.to_pylist()))
