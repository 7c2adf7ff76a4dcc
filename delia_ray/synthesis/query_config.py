"""Where queries come from: what each source is asked for."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, cast

from pydantic import Field, model_validator

from delia_ray.config import Config
from delia_ray.errors import UserError


class DiversityController(Config):
    """Watches each topic while queries are drawn; a topic that begins to repeat itself is made hotter, reworded, then stopped."""

    wave_rows: int = Field(default=2000, ge=1)
    """Queries between two looks. The engine stays up, but waits for the last of them."""
    window_texts: int = Field(default=500, ge=1)
    """Texts of a topic, the newest, that new ones are compared with."""
    fewest_texts: int = Field(default=10, ge=1)
    """A topic with fewer texts in a wave is left alone."""
    new_trigrams: float = Field(default=0.5, ge=0, le=1)
    """Floor of the share of a topic's 3-grams of words that are new to it."""
    new_texts: float = Field(default=0.8, ge=0, le=1)
    """Floor of the share of a topic's texts that are new to it."""
    temperature_step: float = Field(default=0.1, ge=0)
    """How much hotter a topic gets at a time."""
    max_temperature: float = Field(default=1.3, ge=0)
    """A topic as hot as this is reworded next, and then stopped."""


class MagpieQueries(Config):
    """The model writes user turns itself, from the user-turn prefix alone (Magpie, arXiv 2406.08464).

    A query ends at its first line break; one that runs into ``max_tokens`` is cut after its last whole sentence.
    """

    kind: Literal["magpie"] = "magpie"
    rows: int | None = Field(default=None, ge=1)
    """Queries to draw. null: twice what the mixture needs, since some are rejected."""
    temperature: float = Field(default=1.0, ge=0)
    """Temperature of the queries."""
    top_k: int = Field(default=0, ge=0)
    """Candidates of the queries; 0 switches the limit off."""
    max_tokens: int = Field(default=64, ge=1)
    """Longest query, in tokens."""
    topics: tuple[str, ...] | None = Field(default=None, min_length=1)
    """Built-in topics to write about, by name (``delia_ray/synthesis/data/topics.json``). null: all of them."""
    controller: DiversityController | None = None
    """Steer the topics by what they have written so far. null: all topics take turns, whatever they write."""


class Columns(Config):
    """What the columns of the user's rows are called."""

    query: str = "query"
    """What the model is asked; every row must have it."""
    reference: str = "reference"
    """A given answer, where there is one."""
    topic: str = "topic"
    """What the query is about, where that is known."""


class FileQueries(Config):
    """Queries from a file (JSONL, CSV, Parquet), a folder of such files, or one that ``datasets.save_to_disk`` wrote."""

    kind: Literal["file"]
    path: Path
    """The file or folder."""
    columns: Columns = Columns()


class HubQueries(Config):
    """Queries from a data set of the Hugging Face hub. The key of a private one comes from ``HF_TOKEN``."""

    kind: Literal["hub"]
    name: str = Field(pattern=r"^[\w.-]+(/[\w.-]+)?$")
    """``owner/name``."""
    revision: str | None = None
    """Branch, tag or commit. null: the default branch; what it pointed to is recorded."""
    split: str = Field(default="train", min_length=1)
    """The files whose path has this word; where no path names a split, all files are ``train``."""
    files: str | None = None
    """Glob of the files to take, for sets with several configurations. null: all files of rows."""
    columns: Columns = Columns()


class SelfInstructQueries(Config):
    """Queries grown from seed tasks: the model continues a list of some of them (Self-Instruct, Wang et al., arXiv 2212.10560)."""

    kind: Literal["self_instruct"]
    seeds: Path | None = None
    """File or folder of seed tasks. null: the built-in ones."""
    columns: Columns = Columns()
    """The columns of ``seeds``."""
    rows: int | None = Field(default=None, ge=1)
    """Queries to keep. null: twice what the mixture needs."""
    max_rounds: int = Field(default=8, ge=1, le=20)
    """Rounds after which it stops with what it has."""
    first_prompts: int = Field(default=32, ge=1)
    """Prompts of the first round; each later one has twice as many, since it has more tasks to show."""
    seed_examples: int = Field(default=6, ge=1)
    """Seeds shown in a prompt."""
    grown_examples: int = Field(default=2, ge=0)
    """Tasks of earlier rounds shown in a prompt; seeds stand in until there are some."""
    new_tasks: int = Field(default=8, ge=1)
    """Tasks asked for in a prompt."""
    max_similarity: float = Field(default=0.7, gt=0, le=1)
    """A task is kept while its ROUGE-L F1 with every seed and every kept task is below this."""
    temperature: float = Field(default=0.7, gt=0)
    """Temperature of the tasks."""
    top_k: int = Field(default=0, ge=0)
    """Candidates of the tasks; 0 switches the limit off."""
    max_tokens: int = Field(default=384, ge=1)
    """Longest list, in tokens; a task that it cuts off is rejected."""


Source = Annotated[MagpieQueries | FileQueries | HubQueries | SelfInstructQueries, Field(discriminator="kind")]


class BlendPart(Config):
    """One source of a blend. The fields of the source stand beside ``weight``: ``{weight: 2, kind: file, path: ...}``."""

    weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    """Its share of the rows, over the sum of the weights."""
    label: str = Field(default="", pattern=r"^[\w.-]*$")
    """Prefix of its rows' ids. Empty: the file's or the data set's name, or else the kind."""
    source: Source

    @model_validator(mode="before")
    @classmethod
    def _fold(cls, given: Any) -> Any:
        if not isinstance(given, Mapping) or "source" in given:
            return given
        fields = dict(cast(Mapping[str, Any], given))
        own = {name: fields.pop(name) for name in ("weight", "label") if name in fields}
        return {**own, "source": fields}

    @property
    def name(self) -> str:
        """``label`` with its default filled in."""
        match self.source:
            case FileQueries(path=path):
                return self.label or path.stem
            case HubQueries(name=name):
                return self.label or name.rpartition("/")[2]
            case source:
                return self.label or source.kind


class BlendQueries(Config):
    """Several sources, by weight. The rows of a smaller blend are among those of a larger one."""

    kind: Literal["blend"]
    sources: tuple[BlendPart, ...] = Field(min_length=1)
    rows: int | None = Field(default=None, ge=1)
    """Queries in all. null: twice what the mixture needs."""

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [part.name for part in self.sources]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise UserError(f"sources: two are called {twice!r}; give one of them a `label`")
        return self


Queries = Annotated[MagpieQueries | FileQueries | HubQueries | SelfInstructQueries | BlendQueries, Field(discriminator="kind")]
