"""Query sources: the protocol, and the classes that gather queries; ``blend`` has the one that combines others.

What is asked of a source is its config class in ``query_config``; ``queries_stage.find_source`` makes a source of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from delia_ray.core.artifacts import Adopted, Counts, Input, Workspace
from delia_ray.models import get_tokenizer
from delia_ray.models.control_tokens import ControlTokens
from delia_ray.synthesis.config import SynthesizeConfig
from delia_ray.synthesis.context import GenerationContext
from delia_ray.synthesis.filtering.writers import write_queries
from delia_ray.synthesis.prompts import control_tokens
from delia_ray.synthesis.query_config import MagpieQueries, SelfInstructQueries
from delia_ray.synthesis.sources.magpie import generate_magpie_queries, select_topics
from delia_ray.synthesis.sources.self_instruct import generate_tasks, load_seed_tasks
from delia_ray.synthesis.sources.user_rows import UserRows, filter_queries


class QuerySource(Protocol):
    """A source of queries whose inputs have been located."""

    @property
    def inputs(self) -> Mapping[str, Input]:
        """Inputs of the queries, beside the model."""
        ...

    def check(self, control: ControlTokens) -> None:
        """Reject what ``gather`` would reject, before anything is built.

        Raises:
            UserError: the user's rows are not usable.
        """
        ...

    def gather(self, context: GenerationContext, workspace: Workspace) -> Counts:
        """Write ``kept`` queries and ``rejects`` into ``workspace.data``.

        Raises:
            UserError: the user's rows are not usable, a source is too small, or the engine fails too often.
        """
        ...


@dataclass(frozen=True)
class MagpieSource:
    """User turns that the model generates."""

    config: SynthesizeConfig
    magpie: MagpieQueries

    @property
    def inputs(self) -> Mapping[str, Input]:
        return {}

    def check(self, control: ControlTokens) -> None:
        select_topics(self.magpie)

    def gather(self, context: GenerationContext, workspace: Workspace) -> Counts:
        return generate_magpie_queries(self.config, self.magpie, context, workspace)


@dataclass(frozen=True)
class RowsSource:
    """The user's rows, from files or the hub."""

    role: str
    rows: UserRows
    files: Adopted
    error_budget: float

    @property
    def inputs(self) -> Mapping[str, Input]:
        return {self.role: self.files}

    def check(self, control: ControlTokens) -> None:
        for _ in filter_queries(self.rows, control, self.error_budget):
            pass

    def gather(self, context: GenerationContext, workspace: Workspace) -> Counts:
        return write_queries(filter_queries(self.rows, control_tokens(get_tokenizer(context.model)), self.error_budget), workspace.data)


@dataclass(frozen=True)
class SelfInstructSource:
    """Tasks that the model generates from seed tasks."""

    config: SynthesizeConfig
    settings: SelfInstructQueries
    seeds: UserRows | None
    inputs: Mapping[str, Input]

    def check(self, control: ControlTokens) -> None:
        load_seed_tasks(self.seeds, control, self.config.error_budget)

    def gather(self, context: GenerationContext, workspace: Workspace) -> Counts:
        control = control_tokens(get_tokenizer(context.model))
        seeds = load_seed_tasks(self.seeds, control, self.config.error_budget)
        return generate_tasks(self.config, self.settings, seeds, context, workspace)
