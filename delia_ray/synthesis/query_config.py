"""Configuration of the query sources (``synthesize.queries``), and how many rows each source is asked for."""

import heapq
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self, assert_never, cast

from pydantic import Field, model_validator

from delia_ray.core.config import Config
from delia_ray.core.errors import UserError

_MAGPIE_OVERSAMPLE = 1.5
"""Magpie queries to generate for each that a blend takes: some are rejected."""


class DiversityController(Config):
    """Measures each topic while queries are generated; a topic that repeats itself is made hotter, reworded, then stopped."""

    wave_rows: int = Field(default=2000, ge=1)
    """Queries between two measurements. The engine stays up, but waits for the last query of a wave."""
    window_texts: int = Field(default=500, ge=1)
    """Latest texts of a topic that new ones are compared with."""
    fewest_texts: int = Field(default=10, ge=1)
    """A topic with fewer texts in a wave is not measured."""
    new_trigrams: float = Field(default=0.5, ge=0, le=1)
    """Minimum share of a topic's word 3-grams that are new to it."""
    new_texts: float = Field(default=0.8, ge=0, le=1)
    """Minimum share of a topic's texts that are new to it."""
    temperature_step: float = Field(default=0.1, ge=0)
    """Increase of a topic's temperature at each step."""
    max_temperature: float = Field(default=1.3, ge=0)
    """A topic that has reached this temperature is reworded next, and then stopped."""


class MagpieQueries(Config):
    """User turns that the model generates from the user-turn prefix alone (Magpie, arXiv 2406.08464).

    A query ends at its first line break; one that runs into ``max_tokens`` is cut after its last whole sentence.
    """

    kind: Literal["magpie"] = "magpie"
    rows: int | None = Field(default=None, ge=1)
    """Queries to generate. null: twice what the mixture needs, since some are rejected."""
    temperature: float = Field(default=1.0, ge=0)
    """Sampling temperature of the queries."""
    top_k: int = Field(default=0, ge=0)
    """Most likely tokens to sample a query from; 0 switches the limit off."""
    max_tokens: int = Field(default=64, ge=1)
    """Longest query, in tokens."""
    topics: tuple[str, ...] | None = Field(default=None, min_length=1)
    """Built-in topics of the queries, by name (``delia_ray/synthesis/data/topics.json``). null: all of them."""
    controller: DiversityController | None = None
    """Adapt the topics to the queries generated so far. null: all topics take turns throughout."""


class Columns(Config):
    """Names of the columns in the user's rows."""

    query: str = "query"
    """Column of the query, which every row must have."""
    reference: str = "reference"
    """Column of a reference answer, if any."""
    topic: str = "topic"
    """Column of the query's topic, if known."""


class FileQueries(Config):
    """Queries from a file (JSONL, CSV, Parquet), a folder of such files, or one that ``datasets.save_to_disk`` wrote."""

    kind: Literal["file"]
    path: Path
    """The file or folder."""
    columns: Columns = Columns()


class HubQueries(Config):
    """Queries from a data set of the Hugging Face hub. The token for a private one comes from ``HF_TOKEN``."""

    kind: Literal["hub"]
    name: str = Field(pattern=r"^[\w.-]+(/[\w.-]+)?$")
    """``owner/name``."""
    revision: str | None = None
    """Branch, tag or commit. null: the default branch; its commit is recorded."""
    split: str = Field(default="train", min_length=1)
    """Split: the files whose path contains this word; where no path names a split, all files are ``train``."""
    files: str | None = None
    """Glob of the files to read, for data sets with several configurations. null: all data files."""
    columns: Columns = Columns()


class SelfInstructQueries(Config):
    """Queries generated from seed tasks: the model continues a list of some of them (Self-Instruct, Wang et al., arXiv 2212.10560)."""

    kind: Literal["self_instruct"]
    seeds: Path | None = None
    """File or folder of seed tasks. null: the built-in ones."""
    columns: Columns = Columns()
    """The columns of ``seeds``."""
    rows: int | None = Field(default=None, ge=1)
    """Queries to keep. null: twice what the mixture needs."""
    max_rounds: int = Field(default=8, ge=1, le=20)
    """Rounds after which it stops, even with fewer rows."""
    first_prompts: int = Field(default=32, ge=1)
    """Prompts of the first round; each later round has twice as many, since there are more tasks to show."""
    seed_examples: int = Field(default=6, ge=1)
    """Seed tasks shown in a prompt."""
    grown_examples: int = Field(default=2, ge=0)
    """Tasks of earlier rounds shown in a prompt; seed tasks take their place until there are some."""
    new_tasks: int = Field(default=8, ge=1)
    """Tasks requested by a prompt."""
    max_similarity: float = Field(default=0.7, gt=0, le=1)
    """A task is kept if its ROUGE-L F1 with every seed and every kept task is below this."""
    temperature: float = Field(default=0.7, gt=0)
    """Sampling temperature of the tasks."""
    top_k: int = Field(default=0, ge=0)
    """Most likely tokens to sample a task from; 0 switches the limit off."""
    max_tokens: int = Field(default=384, ge=1)
    """Longest list, in tokens; a task cut off by this limit is rejected."""


Source = Annotated[MagpieQueries | FileQueries | HubQueries | SelfInstructQueries, Field(discriminator="kind")]


class BlendPart(Config):
    """One source of a blend. The fields of the source are given beside ``weight``: ``{weight: 2, kind: file, path: ...}``."""

    weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """The source's share of the rows is its weight over the sum of the weights."""
    label: str = Field(default="", pattern=r"^[\w.-]*$")
    """Prefix of the ids of its rows. Empty: the name of the file or data set, or else the kind."""
    source: Source

    @model_validator(mode="before")
    @classmethod
    def _nest_source(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or "source" in values:
            return values
        fields = dict(cast(Mapping[str, Any], values))
        own = {name: fields.pop(name) for name in ("weight", "label") if name in fields}
        return {**own, "source": fields}

    @property
    def name(self) -> str:
        """``label``, or its default."""
        match self.source:
            case FileQueries(path=path):
                return self.label or path.stem
            case HubQueries(name=name):
                return self.label or name.rpartition("/")[2]
            case source:
                return self.label or source.kind


class BlendQueries(Config):
    """Several sources, by weight. The rows of a smaller blend are contained in those of a larger one."""

    kind: Literal["blend"]
    sources: tuple[BlendPart, ...] = Field(min_length=1)
    """The sources, each with the keys of its kind besides ``weight`` (1.0) and ``label``: ``{weight: 2, kind: file, path: ...}``."""
    rows: int | None = Field(default=None, ge=1)
    """Total number of queries. null: twice what the mixture needs."""

    @model_validator(mode="after")
    def _check_names_differ(self) -> Self:
        names = [part.name for part in self.sources]
        if duplicate := next((name for name in names if names.count(name) > 1), None):
            raise UserError(f"sources: two are called {duplicate!r}; give one of them a `label`")
        return self


Queries = Annotated[MagpieQueries | FileQueries | HubQueries | SelfInstructQueries | BlendQueries, Field(discriminator="kind")]


def split_by_weight(weights: Sequence[float], rows: int) -> list[int]:
    """Split ``rows`` among sources by weight, with the divisor method of Webster and Sainte-Laguë.

    Each number is within a row or so of the exact share, and none decreases when ``rows`` grows, so that blends are nested.
    """
    total = sum(weights)
    quotas = [max(0, int(rows * weight / total) - len(weights)) for weight in weights]
    queue = [((quota + 0.5) / weight, index) for index, (quota, weight) in enumerate(zip(quotas, weights, strict=True))]
    heapq.heapify(queue)
    for _ in range(rows - sum(quotas)):
        _, index = queue[0]
        quotas[index] += 1
        heapq.heapreplace(queue, ((quotas[index] + 0.5) / weights[index], index))
    return quotas


def set_default_rows(queries: Queries, default_rows: int) -> Queries:
    """Set the rows of ``queries`` to ``default_rows`` where they are left open; sources of a blend get what their weights need."""
    match queries:
        case FileQueries() | HubQueries():
            return queries
        case BlendQueries():
            rows = queries.rows or default_rows
            quotas = split_by_weight([part.weight for part in queries.sources], rows)
            parts = tuple(_set_part_rows(part, quota) for part, quota in zip(queries.sources, quotas, strict=True))
            return queries.model_copy(update={"rows": rows, "sources": parts})
        case MagpieQueries() | SelfInstructQueries():
            return queries if queries.rows else queries.model_copy(update={"rows": default_rows})
        case _:
            assert_never(queries)


def _set_part_rows(part: BlendPart, quota: int) -> BlendPart:
    oversample = _MAGPIE_OVERSAMPLE if isinstance(part.source, MagpieQueries) else 1.0
    return part.model_copy(update={"source": set_default_rows(part.source, max(1, math.ceil(oversample * quota)))})
