"""How many queries each source is to give."""

import heapq
import math
from collections.abc import Sequence
from typing import assert_never

from delia_ray.synthesis.query_config import BlendPart, BlendQueries, FileQueries, HubQueries, MagpieQueries, Queries, SelfInstructQueries

_MAGPIE_SPARE = 1.5
"""Magpie queries to draw for each that a blend takes: some are refused."""


def quotas(weights: Sequence[float], rows: int) -> list[int]:
    """Rows of each source, by weight: the divisor method of Webster and Sainte-Laguë.

    Each is within a row or so of its exact share, and none falls when ``rows`` grows, so that blends are nested.
    """
    total = sum(weights)
    given = [max(0, int(rows * weight / total) - len(weights)) for weight in weights]
    queue = [((count + 0.5) / weight, index) for index, (count, weight) in enumerate(zip(given, weights, strict=True))]
    heapq.heapify(queue)
    for _ in range(rows - sum(given)):
        _, index = queue[0]
        given[index] += 1
        heapq.heapreplace(queue, ((given[index] + 0.5) / weights[index], index))
    return given


def with_rows(queries: Queries, wanted: int) -> Queries:
    """``queries`` with ``wanted`` rows, where their number is left open; the sources of a blend with what their shares need."""
    match queries:
        case FileQueries() | HubQueries():
            return queries
        case BlendQueries():
            rows = queries.rows or wanted
            shares = quotas([part.weight for part in queries.sources], rows)
            parts = tuple(_part_with_rows(part, share) for part, share in zip(queries.sources, shares, strict=True))
            return queries.model_copy(update={"rows": rows, "sources": parts})
        case MagpieQueries() | SelfInstructQueries():
            return queries if queries.rows else queries.model_copy(update={"rows": wanted})
        case _:
            assert_never(queries)


def _part_with_rows(part: BlendPart, share: int) -> BlendPart:
    spare = _MAGPIE_SPARE if isinstance(part.source, MagpieQueries) else 1.0
    return part.model_copy(update={"source": with_rows(part.source, max(1, math.ceil(spare * share)))})
