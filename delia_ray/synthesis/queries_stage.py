"""The stage ``queries``: diverse queries from the configured source."""

from pathlib import Path
from typing import assert_never

from delia_ray.core.artifacts import Artifact, Counts, Input, Workspace, build_once
from delia_ray.core.config import Config
from delia_ray.core.records import QUERY_KIND
from delia_ray.models.control_tokens import ControlTokens
from delia_ray.ray_runtime.metrics import record_rejects
from delia_ray.synthesis.config import GenerationEngine, SynthesizeConfig
from delia_ray.synthesis.context import GenerationContext
from delia_ray.synthesis.query_config import BlendQueries, FileQueries, HubQueries, MagpieQueries, Queries, SelfInstructQueries
from delia_ray.synthesis.resize import retire_resized_queries
from delia_ray.synthesis.sources.base import MagpieSource, QuerySource, RowsSource, SelfInstructSource
from delia_ray.synthesis.sources.blend import BlendSource, ResolvedPart
from delia_ray.synthesis.sources.user_files import download_hub_rows, locate_local_rows

STAGE = "queries/3"


class QueriesRequest(Config):
    """Request of the stage: the settings that determine the queries."""

    engine: GenerationEngine
    queries: Queries
    seed: int


def check_queries(config: SynthesizeConfig, control: ControlTokens) -> None:
    """Reject what ``generate_queries`` would reject, before anything is built.

    Raises:
        UserError: the user's queries are missing or not usable.
    """
    find_source(config, config.queries).check(control)


def generate_queries(config: SynthesizeConfig, context: GenerationContext, out: Path, run: Path | None = None) -> Artifact:
    """Generate diverse queries with the model, take them from the user's rows, or both.

    Args:
        run: folder of all artifacts made from the queries at ``out``; with it, the queries may be replaced by fewer or more of them.

    Raises:
        UserError: the user's rows are not usable, a source is too small, or the cluster cannot hold the engines.
    """
    source = find_source(config, config.queries)
    request = QueriesRequest(engine=config.engine, queries=config.queries, seed=config.seed)
    inputs: dict[str, Input] = {"model": context.model, **source.inputs}
    if run is not None:
        retire_resized_queries(out, run, STAGE, request, inputs)

    def write(workspace: Workspace) -> Counts:
        counts = source.gather(context, workspace)
        record_rejects(workspace.data / "rejects")
        return counts

    return build_once(out, stage=STAGE, kind=QUERY_KIND, request=request, inputs=inputs, provenance=context.provenance, write=write)


def find_source(config: SynthesizeConfig, queries: Queries, key: str = "synthesize.queries") -> QuerySource:
    """Build the source that ``queries`` configures; files are hashed and data sets of the hub are downloaded.

    Args:
        key: the setting that holds ``queries``.

    Raises:
        UserError: a file or data set does not exist.
    """
    match queries:
        case MagpieQueries():
            return MagpieSource(config, queries)
        case FileQueries():
            return RowsSource("file", *locate_local_rows(queries.path, queries.columns, f"{key}.path"), config.error_budget)
        case HubQueries():
            return RowsSource("dataset", *download_hub_rows(queries, key), config.error_budget)
        case SelfInstructQueries():
            if queries.seeds is None:
                return SelfInstructSource(config, queries, None, {})
            rows, files = locate_local_rows(queries.seeds, queries.columns, f"{key}.seeds")
            return SelfInstructSource(config, queries, rows, {"seeds": files})
        case BlendQueries():
            parts = [
                ResolvedPart(part, f"{key}.sources[{index}]", find_source(config, part.source, f"{key}.sources[{index}]"))
                for index, part in enumerate(queries.sources)
            ]
            return BlendSource(queries, parts, config.seed)
        case _:
            assert_never(queries)
