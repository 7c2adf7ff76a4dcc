"""The stages ``queries`` and ``diverse``: the model asks, the model answers, and what is not usable is set aside."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
import ray.data

from delia_ray.artifacts import Adopted, Artifact, Counts, Input, Provenance, Workspace, build_once
from delia_ray.config import Config
from delia_ray.errors import UserError
from delia_ray.fingerprint import fingerprint, hash_file
from delia_ray.models import load_tokenizer
from delia_ray.placement import ActorPool, Engine
from delia_ray.progress import Line
from delia_ray.records import EXCHANGE_KIND, EXCHANGE_SCHEMA, QUERY_KIND, QUERY_SCHEMA, REJECT_SCHEMA, keyed_int
from delia_ray.runtime import Connect
from delia_ray.synthesis.config import FileQueries, GenerationEngine, MagpieQueries, Sampling, SynthesizeConfig
from delia_ray.synthesis.diversity import describe
from delia_ray.synthesis.draws import DRAW_SCHEMA, Draw, Drawn, DrawStore, new_draw
from delia_ray.synthesis.filters import refuse_answer, refuse_query, whole_sentences
from delia_ray.synthesis.generation import Generation, draw_and_judge
from delia_ray.synthesis.prompts import answer_prompt, control_tokens, query_row, user_turn_prefix
from delia_ray.synthesis.queries import file_queries
from delia_ray.synthesis.sorting import set_aside

QUERIES_STAGE = "queries/1"
DIVERSE_STAGE = "diverse/1"
_ROWS_PER_BLOCK = 10_000
_UNITS = {"query": "queries", "answer": "answers"}


@dataclass(frozen=True)
class Site:
    """Where generation runs and who is told."""

    model: Adopted
    engine: Engine
    pool: ActorPool
    draws: Path
    """Where drawn rows are kept."""
    connect: Connect
    line: Line
    provenance: Provenance


class QueriesRequest(Config):
    """What makes one set of queries different from another."""

    engine: GenerationEngine
    queries: MagpieQueries | FileQueries
    seed: int


class DiverseRequest(Config):
    """What makes one set of answers different from another."""

    engine: GenerationEngine
    mode: str
    answers: Sampling
    system_prompt: str | None
    seed: int


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
                return _draw_queries(config, magpie, site, workspace)

    inputs: dict[str, Input] = {"model": site.model}
    if isinstance(config.queries, FileQueries):
        inputs["file"] = Adopted(config.queries.path, hash_file(config.queries.path))
    return build_once(out, stage=QUERIES_STAGE, kind=QUERY_KIND, request=request, inputs=inputs, provenance=site.provenance, write=write)


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
        draws = ray.data.read_parquet(str(queries.data / "kept")).map_batches(
            partial(_answer_draws, config, site.model), batch_format="pyarrow"
        )
        judge = partial(_judged, refuse_answer, control_tokens(load_tokenizer(site.model.path)))
        counts = _generate(config, draws, judge, "answer", site, workspace, EXCHANGE_SCHEMA, _exchange)
        if counts["rows"]:
            found = describe(workspace.data / "kept")
            (workspace.data / "diversity.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        return counts

    inputs: dict[str, Input] = {"model": site.model, "queries": queries}
    return build_once(out, stage=DIVERSE_STAGE, kind=EXCHANGE_KIND, request=request, inputs=inputs, provenance=site.provenance, write=write)


def _draw_queries(config: SynthesizeConfig, magpie: MagpieQueries, site: Site, workspace: Workspace) -> Counts:
    assert magpie.rows is not None, "the pipeline sets the number of queries"
    site.connect()
    draws = ray.data.range(magpie.rows, override_num_blocks=max(1, magpie.rows // _ROWS_PER_BLOCK)).map_batches(
        partial(_query_draws, config, magpie, site.model), batch_format="pyarrow"
    )
    judge = partial(_judged, refuse_query, control_tokens(load_tokenizer(site.model.path)))
    return _generate(config, draws, lambda drawn: judge(_trimmed(drawn)), "query", site, workspace, QUERY_SCHEMA, _query)


def _query_draws(config: SynthesizeConfig, magpie: MagpieQueries, model: Adopted, numbers: pa.Table) -> pa.Table:
    tokenizer = _tokenizer(model.path)
    draws: list[Draw] = []
    for number in numbers["id"].to_pylist():
        row = query_row(number)
        seed = keyed_int(config.seed, "query", row["query_id"]) % 2**31
        sampling = {"temperature": magpie.temperature, "top_k": magpie.top_k, "max_tokens": magpie.max_tokens, "stop": ["\n"], "seed": seed}
        prompt = user_turn_prefix(tokenizer, row["system"])
        draws.append(new_draw(_source(config, model), row["query_id"], prompt, sampling, topic=row["topic"]))
    return pa.Table.from_pylist(draws, schema=DRAW_SCHEMA)


def _answer_draws(config: SynthesizeConfig, model: Adopted, queries: pa.Table) -> pa.Table:
    tokenizer = _tokenizer(model.path)
    draws: list[Draw] = []
    for query in queries.to_pylist():
        sampling = {**config.answers.model_dump(), "seed": keyed_int(config.seed, "answer", query["query_id"]) % 2**31}
        prompt = answer_prompt(tokenizer, query, config.system_prompt, config.mode)
        row = new_draw(_source(config, model), query["query_id"], prompt, sampling, topic=query["topic"], query=query["query"])
        draws.append(row)
    return pa.Table.from_pylist(draws, schema=DRAW_SCHEMA)


def _source(config: SynthesizeConfig, model: Adopted) -> str:
    """Names what continues the prompts."""
    return fingerprint({"engine": config.engine.model_dump(mode="json"), "model": model.fingerprint})


@lru_cache(maxsize=1)
def _tokenizer(model: Path) -> Any:
    """Once a process, whatever the number of blocks."""
    return load_tokenizer(model)


def _trimmed(drawn: Drawn) -> Drawn:
    """A query that ran into its limit, cut after its last whole sentence. Answers are never cut: their end is learnt."""
    whole = None if drawn["finished"] else whole_sentences(drawn["text"])
    return drawn if whole is None else {**drawn, "text": whole, "finished": True}


def _judged(refuse: Callable[[str, bool, tuple[str, ...]], str | None], control: tuple[str, ...], drawn: Drawn) -> dict[str, Any]:
    reason = f"engine error: {drawn['error'][:200]}" if drawn["error"] else refuse(drawn["text"], drawn["finished"], control)
    return {**drawn, "reason": reason or ""}


def _generate(
    config: SynthesizeConfig,
    draws: ray.data.Dataset,
    judge: Callable[[Drawn], dict[str, Any]],
    step: Literal["query", "answer"],
    site: Site,
    workspace: Workspace,
    schema: pa.Schema,
    keep: Callable[[Mapping[str, Any]], dict[str, Any]],
) -> Counts:
    store = DrawStore(site.draws / _source(config, site.model))
    generation = Generation(config.engine, site.model.path, site.engine, site.pool, store, config.error_budget)
    judged, effort = draw_and_judge(draws, judge, generation, site.line, _UNITS[step], workspace.inflight)
    return {**set_aside(judged, workspace.data, step, schema, keep), **effort}


def _query(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"query_id": row["row_id"], "topic": row["topic"], "query": row["text"], "reference": None}


def _exchange(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"exchange_id": row["row_id"], "topic": row["topic"], "query": row["query"], "answer": row["text"],
            "prompt_tokens": row["prompt_tokens"], "answer_tokens": row["answer_tokens"]}  # fmt: skip
