"""Where queries come from: one protocol, one class a kind. ``blend`` has the one that is made of others."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from delia_ray.artifacts import Adopted, Counts, Input, Workspace
from delia_ray.models import tokenizer_of
from delia_ray.models.control_tokens import ControlTokens
from delia_ray.synthesis.config import SynthesizeConfig
from delia_ray.synthesis.growing import grow, seed_tasks
from delia_ray.synthesis.magpie import chosen_topics, draw_queries
from delia_ray.synthesis.prompts import control_tokens
from delia_ray.synthesis.queries import UserRows, judged_queries
from delia_ray.synthesis.query_config import MagpieQueries, SelfInstructQueries
from delia_ray.synthesis.site import Site
from delia_ray.synthesis.verdicts import write_queries


class QuerySource(Protocol):
    """A source of queries, found and ready."""

    @property
    def inputs(self) -> Mapping[str, Input]:
        """What the queries are made from, beside the model."""
        ...

    def check(self, control: ControlTokens) -> None:
        """Refuse what ``gather`` would refuse, before anything is built.

        Raises:
            UserError: the user's rows are not usable.
        """
        ...

    def gather(self, site: Site, workspace: Workspace) -> Counts:
        """Write ``kept`` queries and ``rejects`` into ``workspace.data``.

        Raises:
            UserError: the user's rows are not usable, a source is too small, or the engine fails too often.
        """
        ...


@dataclass(frozen=True)
class MagpieSource:
    config: SynthesizeConfig
    magpie: MagpieQueries

    @property
    def inputs(self) -> Mapping[str, Input]:
        return {}

    def check(self, control: ControlTokens) -> None:
        chosen_topics(self.magpie)

    def gather(self, site: Site, workspace: Workspace) -> Counts:
        return draw_queries(self.config, self.magpie, site, workspace)


@dataclass(frozen=True)
class RowsSource:
    role: str
    rows: UserRows
    found: Adopted
    error_budget: float

    @property
    def inputs(self) -> Mapping[str, Input]:
        return {self.role: self.found}

    def check(self, control: ControlTokens) -> None:
        for _ in judged_queries(self.rows, control, self.error_budget):
            pass

    def gather(self, site: Site, workspace: Workspace) -> Counts:
        return write_queries(judged_queries(self.rows, control_tokens(tokenizer_of(site.model)), self.error_budget), workspace.data)


@dataclass(frozen=True)
class SelfInstructSource:
    config: SynthesizeConfig
    asked: SelfInstructQueries
    seeds: UserRows | None
    inputs: Mapping[str, Input]

    def check(self, control: ControlTokens) -> None:
        seed_tasks(self.asked, self.seeds, control, self.config.error_budget)

    def gather(self, site: Site, workspace: Workspace) -> Counts:
        control = control_tokens(tokenizer_of(site.model))
        return grow(self.config, self.asked, seed_tasks(self.asked, self.seeds, control, self.config.error_budget), site, workspace)
