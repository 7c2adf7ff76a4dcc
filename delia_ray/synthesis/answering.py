"""The stage ``diverse``: the model's own answers to the queries."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray.data

from delia_ray.artifacts import Adopted, Artifact, Counts, Input, Workspace, build_once
from delia_ray.config import Config
from delia_ray.errors import UserError
from delia_ray.models import load_tokenizer
from delia_ray.records import EXCHANGE_KIND, EXCHANGE_SCHEMA, keyed_int
from delia_ray.synthesis.config import GenerationEngine, Sampling, SynthesizeConfig
from delia_ray.synthesis.draws import DRAW_SCHEMA, Draw, new_draw
from delia_ray.synthesis.filters import refuse_answer
from delia_ray.synthesis.prompts import answer_prompt, control_tokens
from delia_ray.synthesis.site import Site, generate_rows, judged, source, tokenizer_of

STAGE = "diverse/1"


class DiverseRequest(Config):
    """What makes one set of answers different from another."""

    engine: GenerationEngine
    mode: str
    answers: Sampling
    system_prompt: str | None
    seed: int


def answer(config: SynthesizeConfig, queries: Artifact, site: Site, out: Path) -> Artifact:
    """The model's own answer to every query.

    Raises:
        UserError: no query is left to answer, the engine fails too often, or the cluster cannot hold the engines.
    """
    if not queries.manifest.counts["rows"]:
        raise UserError(
            f"synthesize.queries: none of {queries.manifest.counts['rejected']:g} queries can be used; "
            f"{queries.data / 'rejects'} has the reasons, give others or raise synthesize.queries.rows"
        )
    request = DiverseRequest(
        engine=config.engine, mode=config.mode, answers=config.answers, system_prompt=config.system_prompt, seed=config.seed
    )

    def write(workspace: Workspace) -> Counts:
        site.connect()
        draws = ray.data.read_parquet(str(queries.data / "kept")).map_batches(partial(_draws, config, site.model), batch_format="pyarrow")
        judge = partial(judged, refuse_answer, control_tokens(load_tokenizer(site.model.path)))
        return generate_rows(config, draws, judge, "answer", site, workspace, EXCHANGE_SCHEMA, _exchange)

    inputs: dict[str, Input] = {"model": site.model, "queries": queries}
    return build_once(out, stage=STAGE, kind=EXCHANGE_KIND, request=request, inputs=inputs, provenance=site.provenance, write=write)


def _draws(config: SynthesizeConfig, model: Adopted, queries: pa.Table) -> pa.Table:
    tokenizer = tokenizer_of(model.path)
    draws: list[Draw] = []
    for query in queries.to_pylist():
        sampling = {**config.answers.model_dump(), "seed": keyed_int(config.seed, "answer", query["query_id"]) % 2**31}
        prompt = answer_prompt(tokenizer, query, config.system_prompt, config.mode)
        row = new_draw(source(config, model), query["query_id"], prompt, sampling, topic=query["topic"], query=query["query"])
        draws.append(row)
    return pa.Table.from_pylist(draws, schema=DRAW_SCHEMA)


def _exchange(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"exchange_id": row["row_id"], "topic": row["topic"], "query": row["query"], "answer": row["text"],
            "prompt_tokens": row["prompt_tokens"], "answer_tokens": row["answer_tokens"]}  # fmt: skip
