"""The stages ``queries`` and ``diverse``: the model asks, the model answers, and what is not usable is set aside."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq
import ray.data

from delia_ray.artifacts import Adopted, Artifact, Counts, Input, Provenance, Workspace, build_once
from delia_ray.config import Config
from delia_ray.fingerprint import hash_file
from delia_ray.models import load_tokenizer
from delia_ray.placement import ActorPool, Engine
from delia_ray.progress import Line, Tally
from delia_ray.records import EXCHANGE_KIND, EXCHANGE_SCHEMA, QUERY_KIND, QUERY_SCHEMA, Query, keyed_int
from delia_ray.runtime import Connect, RayTally
from delia_ray.synthesis.config import FileQueries, GenerationEngine, MagpieQueries, Sampling, SynthesizeConfig
from delia_ray.synthesis.engine import Drawn, generate
from delia_ray.synthesis.filters import refuse_answer, refuse_query, whole_sentences
from delia_ray.synthesis.prompts import answer_prompt, control_tokens, query_rows, user_turn_prefix
from delia_ray.synthesis.queries import file_queries
from delia_ray.synthesis.sorting import set_aside

QUERIES_STAGE = "queries/1"
DIVERSE_STAGE = "diverse/1"


@dataclass(frozen=True)
class Site:
    """Where generation runs and who is told."""

    model: Adopted
    engine: Engine
    pool: ActorPool
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
                rows = file_queries(path)
                (workspace.data / "kept").mkdir()
                pq.write_table(pa.Table.from_pylist(rows, schema=QUERY_SCHEMA), workspace.data / "kept" / "0.parquet")
                return {"rows": len(rows), "rejected": 0}
            case MagpieQueries() as magpie:
                return _draw_queries(config, magpie, site, workspace)

    inputs: dict[str, Input] = {"model": site.model}
    if isinstance(config.queries, FileQueries):
        inputs = {"file": Adopted(config.queries.path, hash_file(config.queries.path))}
    return build_once(out, stage=QUERIES_STAGE, kind=QUERY_KIND, request=request, inputs=inputs, provenance=site.provenance, write=write)


def answer(config: SynthesizeConfig, queries: Artifact, site: Site, out: Path) -> Artifact:
    """The model's own answer to every query.

    Raises:
        UserError: the cluster cannot hold the engines.
    """
    request = DiverseRequest(
        engine=config.engine, mode=config.mode, answers=config.answers, system_prompt=config.system_prompt, seed=config.seed
    )

    def write(workspace: Workspace) -> Counts:
        site.connect()
        render = _AnswerDraw(config, site.model.path)
        draws = ray.data.read_parquet(str(queries.data / "kept")).map(render)
        refuse = _judge(refuse_answer, control_tokens(load_tokenizer(site.model.path)))
        total = int(queries.manifest.counts["rows"])
        _run(config, draws, refuse, total, "answers", site, workspace)
        return set_aside(workspace.inflight / "judged", workspace.data, "answer", EXCHANGE_SCHEMA, _exchange)

    inputs: dict[str, Input] = {"model": site.model, "queries": queries}
    return build_once(out, stage=DIVERSE_STAGE, kind=EXCHANGE_KIND, request=request, inputs=inputs, provenance=site.provenance, write=write)


def _draw_queries(config: SynthesizeConfig, magpie: MagpieQueries, site: Site, workspace: Workspace) -> Counts:
    assert magpie.rows is not None, "the pipeline sets the number of queries"
    site.connect()
    tokenizer = load_tokenizer(site.model.path)
    sampling = {"temperature": magpie.temperature, "top_k": magpie.top_k, "max_tokens": magpie.max_tokens, "stop": ["\n"]}
    rows = [
        {
            "row_id": row["query_id"],
            "prompt": user_turn_prefix(tokenizer, row["system"]),
            "sampling": {**sampling, "seed": keyed_int(config.seed, "query", row["query_id"]) % 2**31},
            "topic": row["topic"],
            "query": "",
        }
        for row in query_rows(magpie.rows)
    ]
    judge = _judge(refuse_query, control_tokens(tokenizer))
    # A block a batch keeps the actors busy; more would only be more tasks to start.
    draws = ray.data.from_items(rows, override_num_blocks=max(1, magpie.rows // site.pool.batch_rows))
    _run(config, draws, lambda drawn: judge(_trimmed(drawn)), magpie.rows, "queries", site, workspace)
    return set_aside(workspace.inflight / "judged", workspace.data, "query", QUERY_SCHEMA, _query)


def _trimmed(drawn: Drawn) -> Drawn:
    """A query that ran into its limit, cut after its last whole sentence. Answers are never cut: their end is learnt."""
    whole = None if drawn["finished"] else whole_sentences(drawn["text"])
    return drawn if whole is None else {**drawn, "text": whole, "finished": True}


class _AnswerDraw:
    """Renders a query into a draw. The tokenizer is loaded where it runs, once a worker."""

    def __init__(self, config: SynthesizeConfig, model: Path):
        self._config = config
        self._model = model
        self._tokenizer: Any = None

    def __call__(self, query: dict[str, Any]) -> dict[str, Any]:
        self._tokenizer = self._tokenizer or load_tokenizer(self._model)
        config, answers = self._config, self._config.answers
        seed = keyed_int(config.seed, "answer", query["query_id"]) % 2**31
        sampling = {**answers.model_dump(), "seed": seed}
        prompt = answer_prompt(self._tokenizer, cast(Query, query), config.system_prompt, config.mode)
        return {"row_id": query["query_id"], "prompt": prompt, "sampling": sampling, "topic": query["topic"], "query": query["query"]}


def _judge(refuse: Callable[[str, bool, tuple[str, ...]], str | None], control: tuple[str, ...]) -> Callable[[Drawn], dict[str, Any]]:
    def judged(drawn: Drawn) -> dict[str, Any]:
        reason = f"engine error: {drawn['error'][:200]}" if drawn["error"] else refuse(drawn["text"], drawn["finished"], control)
        return {**drawn, "reason": reason or ""}

    return judged


def _run(
    config: SynthesizeConfig,
    draws: ray.data.Dataset,
    judge: Callable[[Drawn], dict[str, Any]],
    total: int,
    unit: str,
    site: Site,
    workspace: Workspace,
) -> None:
    tally: Tally = RayTally()

    def judged(drawn: dict[str, Any]) -> dict[str, Any]:
        tally.add(rows=1, tokens=drawn["answer_tokens"])
        return judge(cast(Drawn, drawn))

    drawn = generate(draws, config.engine, site.model.path, site.engine, site.pool, max_model_len=2048)
    with site.line.follow(tally, total, unit):
        drawn.map(judged).write_parquet(str(workspace.inflight / "judged"), mode=ray.data.SaveMode.OVERWRITE)


def _query(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"query_id": row["row_id"], "topic": row["topic"], "query": row["text"], "reference": None}


def _exchange(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"exchange_id": row["row_id"], "topic": row["topic"], "query": row["query"], "answer": row["text"],
            "prompt_tokens": row["prompt_tokens"], "answer_tokens": row["answer_tokens"]}  # fmt: skip
