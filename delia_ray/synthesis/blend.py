"""Several sources of queries as one, by weight."""

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from delia_ray.artifacts import Counts, Input, Workspace
from delia_ray.errors import UserError
from delia_ray.models.control_tokens import ControlTokens
from delia_ray.synthesis.picking import by_hash, by_id
from delia_ray.synthesis.query_config import BlendPart, BlendQueries, MagpieQueries, SelfInstructQueries
from delia_ray.synthesis.quotas import quotas
from delia_ray.synthesis.site import Site
from delia_ray.synthesis.sources import QuerySource
from delia_ray.synthesis.verdicts import Verdict, read_rows, write_queries


@dataclass(frozen=True)
class Part:
    """One source of a blend, found and ready."""

    asked: BlendPart
    key: str
    """The setting that asks for it."""
    source: QuerySource


@dataclass(frozen=True)
class BlendSource:
    """Takes from each source as many queries as its weight says, and puts the source's name before their ids."""

    blend: BlendQueries
    parts: list[Part]
    seed: int

    @property
    def inputs(self) -> Mapping[str, Input]:
        return {f"{part.asked.name}.{role}": given for part in self.parts for role, given in part.source.inputs.items()}

    def check(self, control: ControlTokens) -> None:
        for part in self.parts:
            part.source.check(control)

    def gather(self, site: Site, workspace: Workspace) -> Counts:
        """Write the blend.

        Raises:
            UserError: a source has fewer queries than its weight asks for, or cannot be had.
        """
        rows = self.blend.rows
        assert rows is not None, "the settings set the number of queries"
        shares = quotas([part.asked.weight for part in self.parts], rows)
        verdicts: list[Iterator[Verdict]] = []
        effort = {"prompt_tokens": 0.0, "answer_tokens": 0.0, "drawn": 0.0, "reused": 0.0, "seconds": 0.0}
        for part, share in zip(self.parts, shares, strict=True):
            given = self._gather_part(part, share, site, workspace)
            verdicts.append(_taken(part, share, self.seed, given.data))
            effort = {name: before + given.counts.get(name, 0) for name, before in effort.items()}
        return {**write_queries((verdict for part in verdicts for verdict in part), workspace.data), **effort}

    def _gather_part(self, part: Part, share: int, site: Site, workspace: Workspace) -> "_Given":
        place = workspace.inflight / "parts" / part.asked.name
        shutil.rmtree(place / "data", ignore_errors=True)
        (place / "data").mkdir(parents=True)
        (place / "inflight").mkdir(exist_ok=True)
        counts = part.source.gather(site, Workspace(place / "data", place / "inflight"))
        if (missing := share - int(counts["rows"])) > 0:
            raise UserError(
                f"{part.key}: gives {counts['rows']:g} queries, but its weight {part.asked.weight:g} asks for {share} of "
                f"{self.blend.rows} rows: {missing} are missing; give it more, or lower its weight or synthesize.queries.rows"
            )
        return _Given(place / "data", counts)


@dataclass(frozen=True)
class _Given:
    data: Path
    counts: Counts


def _taken(part: Part, share: int, seed: int, data: Path) -> Iterator[Verdict]:
    """The rows of ``part`` that come first, in an order in which a larger share only adds; and its rejects."""
    ids = [row["query_id"] for row in read_rows(data / "kept", ["query_id"])]
    grows = isinstance(part.asked.source, MagpieQueries | SelfInstructQueries)
    taken = by_id(ids, share) if grows else by_hash(ids, share, seed)
    for row, is_taken in zip(read_rows(data / "kept"), taken, strict=True):
        if is_taken:
            yield "kept", _named(row, "query_id", part)
    for row in read_rows(data / "rejects"):
        yield "rejects", _named(row, "row_id", part)


def _named(row: Mapping[str, Any], field: str, part: Part) -> dict[str, Any]:
    return {**row, field: f"{part.asked.name}:{row[field]}"}
