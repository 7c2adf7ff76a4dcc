"""The stage ``queries``: what the model will be asked."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from delia_ray.artifacts import Adopted, Artifact, Counts, Input, Workspace, build_once
from delia_ray.config import Config
from delia_ray.fingerprint import hash_file
from delia_ray.models import load_tokenizer
from delia_ray.records import QUERY_KIND, QUERY_SCHEMA, REJECT_SCHEMA
from delia_ray.synthesis.config import FileQueries, GenerationEngine, MagpieQueries, SynthesizeConfig
from delia_ray.synthesis.magpie import draw_queries
from delia_ray.synthesis.prompts import control_tokens
from delia_ray.synthesis.queries import file_queries
from delia_ray.synthesis.site import Site

STAGE = "queries/1"


class QueriesRequest(Config):
    """What makes one set of queries different from another."""

    engine: GenerationEngine
    queries: MagpieQueries | FileQueries
    seed: int


def check_queries(config: SynthesizeConfig, control_tokens: tuple[str, ...]) -> None:
    """Refuse, before anything is built, what ``ask`` would refuse.

    Raises:
        UserError: the user's file of queries is not usable.
    """
    if isinstance(config.queries, FileQueries):
        file_queries(config.queries.path, control_tokens, config.error_budget)


def ask(config: SynthesizeConfig, site: Site, out: Path) -> Artifact:
    """Diverse queries: written by the model itself, or taken from the user's file.

    Raises:
        UserError: the file is not usable, or the cluster cannot hold the engines.
    """
    request = QueriesRequest(engine=config.engine, queries=config.queries, seed=config.seed)

    def write(workspace: Workspace) -> Counts:
        match config.queries:
            case FileQueries(path=path):
                found, refused = file_queries(path, control_tokens(load_tokenizer(site.model.path)), config.error_budget)
                for name, rows, schema in (("kept", found, QUERY_SCHEMA), ("rejects", refused, REJECT_SCHEMA)):
                    (workspace.data / name).mkdir()
                    pq.write_table(pa.Table.from_pylist(rows, schema=schema), workspace.data / name / "0.parquet")
                return {"rows": len(found), "rejected": len(refused)}
            case MagpieQueries() as magpie:
                return draw_queries(config, magpie, site, workspace)

    inputs: dict[str, Input] = {"model": site.model}
    if isinstance(config.queries, FileQueries):
        inputs["file"] = Adopted(config.queries.path, hash_file(config.queries.path))
    return build_once(out, stage=STAGE, kind=QUERY_KIND, request=request, inputs=inputs, provenance=site.provenance, write=write)
