"""The stage ``queries``: what the model will be asked."""

from pathlib import Path
from typing import assert_never

from delia_ray.artifacts import Artifact, Counts, Input, Workspace, build_once
from delia_ray.config import Config
from delia_ray.models.control_tokens import ControlTokens
from delia_ray.records import QUERY_KIND
from delia_ray.synthesis.blend import BlendSource, Part
from delia_ray.synthesis.config import GenerationEngine, SynthesizeConfig
from delia_ray.synthesis.query_config import BlendQueries, FileQueries, HubQueries, MagpieQueries, Queries, SelfInstructQueries
from delia_ray.synthesis.resize import make_way
from delia_ray.synthesis.site import Site
from delia_ray.synthesis.sources import MagpieSource, QuerySource, RowsSource, SelfInstructSource
from delia_ray.synthesis.user_files import hub_rows, local_rows

STAGE = "queries/2"


class QueriesRequest(Config):
    """What makes one set of queries different from another."""

    engine: GenerationEngine
    queries: Queries
    seed: int


def check_queries(config: SynthesizeConfig, control: ControlTokens) -> None:
    """Refuse, before anything is built, what ``ask`` would refuse.

    Raises:
        UserError: the user's queries are not there or not usable.
    """
    find_source(config, config.queries).check(control)


def ask(config: SynthesizeConfig, site: Site, out: Path, run: Path | None = None) -> Artifact:
    """Diverse queries: written by the model itself, taken from the user's rows, or both.

    Args:
        run: where all that was made from queries at ``out`` lies; with it, fewer or more of the same may take their place.

    Raises:
        UserError: the user's rows are not usable, a source is too small, or the cluster cannot hold the engines.
    """
    source = find_source(config, config.queries)
    request = QueriesRequest(engine=config.engine, queries=config.queries, seed=config.seed)
    inputs: dict[str, Input] = {"model": site.model, **source.inputs}
    if run is not None:
        make_way(out, run, STAGE, request, inputs)

    def write(workspace: Workspace) -> Counts:
        return source.gather(site, workspace)

    return build_once(out, stage=STAGE, kind=QUERY_KIND, request=request, inputs=inputs, provenance=site.provenance, write=write)


def find_source(config: SynthesizeConfig, queries: Queries, key: str = "synthesize.queries") -> QuerySource:
    """The source that ``queries`` asks for; files are hashed and data sets of the hub are downloaded.

    Args:
        key: the setting that holds ``queries``.

    Raises:
        UserError: a file or data set is not there.
    """
    match queries:
        case MagpieQueries():
            return MagpieSource(config, queries)
        case FileQueries():
            return RowsSource("file", *local_rows(queries.path, queries.columns, f"{key}.path"), config.error_budget)
        case HubQueries():
            return RowsSource("dataset", *hub_rows(queries, key), config.error_budget)
        case SelfInstructQueries():
            if queries.seeds is None:
                return SelfInstructSource(config, queries, None, {})
            rows, found = local_rows(queries.seeds, queries.columns, f"{key}.seeds")
            return SelfInstructSource(config, queries, rows, {"seeds": found})
        case BlendQueries():
            parts = [
                Part(part, f"{key}.sources[{index}]", find_source(config, part.source, f"{key}.sources[{index}]"))
                for index, part in enumerate(queries.sources)
            ]
            return BlendSource(queries, parts, config.seed)
        case _:
            assert_never(queries)
