"""Query source that blends several others by weight."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from delia_ray.core.artifacts import Counts, Input, Workspace
from delia_ray.core.errors import UserError
from delia_ray.core.records import keyed_int
from delia_ray.core.storage.objects import remove
from delia_ray.core.storage.transfer import publish
from delia_ray.models.control_tokens import ControlTokens
from delia_ray.synthesis.context import GenerationContext
from delia_ray.synthesis.filtering.writers import FilteredRow, read_rows, write_queries
from delia_ray.synthesis.query_config import BlendPart, BlendQueries, MagpieQueries, SelfInstructQueries, split_by_weight
from delia_ray.synthesis.sources.base import QuerySource


@dataclass(frozen=True)
class ResolvedPart:
    """One part of a blend with its query source."""

    config: BlendPart
    key: str
    """The setting that configures it."""
    source: QuerySource


@dataclass(frozen=True)
class BlendSource:
    """Takes from each source as many queries as its weight says, and puts the source's name before their ids."""

    blend: BlendQueries
    parts: list[ResolvedPart]
    seed: int

    @property
    def inputs(self) -> Mapping[str, Input]:
        return {f"{part.config.name}.{role}": artifact for part in self.parts for role, artifact in part.source.inputs.items()}

    def check(self, control: ControlTokens) -> None:
        for part in self.parts:
            part.source.check(control)

    def gather(self, context: GenerationContext, workspace: Workspace) -> Counts:
        """Write the blend.

        Raises:
            UserError: a source has fewer queries than its weight asks for, or is not available.
        """
        rows = self.blend.rows
        assert rows is not None, "the settings set the number of queries"
        quotas = split_by_weight([part.config.weight for part in self.parts], rows)
        row_streams: list[Iterator[FilteredRow]] = []
        totals = {"prompt_tokens": 0.0, "answer_tokens": 0.0, "generated": 0.0, "cached": 0.0, "seconds": 0.0}
        for part, quota in zip(self.parts, quotas, strict=True):
            output = self._gather_part(part, quota, context, workspace)
            row_streams.append(_take_rows(part, quota, self.seed, output.data))
            totals = {name: total + output.counts.get(name, 0) for name, total in totals.items()}
        return {**write_queries((row for stream in row_streams for row in stream), workspace.data), **totals}

    def _gather_part(self, part: ResolvedPart, quota: int, context: GenerationContext, workspace: Workspace) -> "_PartOutput":
        folder = workspace.inflight / "parts" / part.config.name
        remove(folder / "data")
        (folder / "data").mkdir(parents=True)
        (folder / "inflight").mkdir(exist_ok=True)
        counts = part.source.gather(context, Workspace(folder / "data", folder / "inflight"))
        publish(folder / "data")
        if (missing := quota - int(counts["rows"])) > 0:
            raise UserError(
                f"{part.key}: gives {counts['rows']:g} queries, but its weight {part.config.weight:g} asks for {quota} of "
                f"{self.blend.rows} rows: {missing} are missing; give it more, or lower its weight or synthesize.queries.rows"
            )
        return _PartOutput(folder / "data", counts)


@dataclass(frozen=True)
class _PartOutput:
    data: Path
    counts: Counts


def select_by_hash(ids: Sequence[str], quota: int, seed: int) -> NDArray[np.bool_]:
    """Select the ``quota`` rows whose ids have the smallest keyed hashes: [N]. A larger quota only adds rows."""
    return _select_smallest(np.fromiter((keyed_int(seed, "blend", each) for each in ids), dtype=np.int64, count=len(ids)), quota)


def select_by_id(ids: Sequence[str], quota: int) -> NDArray[np.bool_]:
    """Select the ``quota`` rows with the smallest ids: [N]. For a source whose later rows have larger ids."""
    return _select_smallest(np.argsort(np.argsort(np.array(ids, dtype=object), kind="stable"), kind="stable"), quota)


def _select_smallest(values: NDArray[np.int64], quota: int) -> NDArray[np.bool_]:
    selected = np.zeros(len(values), dtype=bool)
    selected[np.argsort(values, kind="stable")[:quota]] = True
    return selected


def _take_rows(part: ResolvedPart, quota: int, seed: int, data: Path) -> Iterator[FilteredRow]:
    """Yield the ``quota`` rows of ``part`` that the blend takes, and all its rejects."""
    ids = [row["query_id"] for row in read_rows(data / "kept", ["query_id"])]
    has_growing_ids = isinstance(part.config.source, MagpieQueries | SelfInstructQueries)
    selected = select_by_id(ids, quota) if has_growing_ids else select_by_hash(ids, quota, seed)
    for row, is_selected in zip(read_rows(data / "kept"), selected, strict=True):
        if is_selected:
            yield "kept", _prefix_id(row, "query_id", part)
    for row in read_rows(data / "rejects"):
        yield "rejects", _prefix_id(row, "row_id", part)


def _prefix_id(row: Mapping[str, Any], field: str, part: ResolvedPart) -> dict[str, Any]:
    return {**row, field: f"{part.config.name}:{row[field]}"}
