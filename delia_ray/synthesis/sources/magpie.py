"""Magpie query source: the model generates user turns from the user-turn prefix alone (Xu et al., arXiv 2406.08464)."""

import shutil
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pyarrow as pa
import ray.data

from delia_ray.core.artifacts import Counts, Workspace
from delia_ray.core.errors import UserError
from delia_ray.core.records import QUERY_SCHEMA, keyed_int
from delia_ray.models import ModelFolder, encode, find_user_turn_stops, get_tokenizer, render_user_turn_prefix
from delia_ray.synthesis.config import SynthesizeConfig
from delia_ray.synthesis.context import GenerationContext, apply_filter, fingerprint_generator, generate_rows, split_kept_and_rejected
from delia_ray.synthesis.controller.policy import PlannedQuery, TopicStates, initial_states, plan
from delia_ray.synthesis.filtering.filters import cut_to_whole_sentences, reject_query
from delia_ray.synthesis.generation.waves import LOG, WaveStrategy
from delia_ray.synthesis.prompts import control_tokens, format_query_id, load_topics, render_steering_turn
from delia_ray.synthesis.query_config import DiversityController, MagpieQueries
from delia_ray.synthesis.requests import REQUEST_SCHEMA, GenerationRequest, GenerationResult, new_request

_ROWS_PER_BLOCK = 10_000


def generate_magpie_queries(config: SynthesizeConfig, magpie: MagpieQueries, context: GenerationContext, workspace: Workspace) -> Counts:
    """Generate ``magpie.rows`` queries, with the topics taking turns. A controller's log is written to ``controller.jsonl``."""
    assert magpie.rows is not None, "the run sets the number of queries"
    context.connect()
    build_requests = partial(_build_requests, config, magpie, context.model)
    log = workspace.inflight / LOG
    topics = select_topics(magpie)
    match magpie.controller:
        case None:
            numbers = ray.data.range(magpie.rows, override_num_blocks=max(1, magpie.rows // _ROWS_PER_BLOCK))
            build_block = partial(_build_block, initial_states(topics, magpie.temperature), build_requests)
            requests = numbers.map_batches(build_block, batch_format="pyarrow")
        case DiversityController() as settings:
            requests = WaveStrategy(settings, magpie.rows, topics, magpie.temperature, build_requests, log)
    query_filter = partial(apply_filter, reject_query, control_tokens(get_tokenizer(context.model)))
    filtered, cost = generate_rows(config, requests, lambda row: query_filter(_trim(row)), "query", context, workspace.inflight)
    counts = split_kept_and_rejected(filtered, cost, "query", context, workspace.data, QUERY_SCHEMA, _to_query)
    if magpie.controller is not None:
        shutil.copy(log, workspace.data / LOG)
    return counts


def select_topics(magpie: MagpieQueries) -> tuple[str, ...]:
    """Return the topics to steer toward.

    Raises:
        UserError: one is not built in.
    """
    known = tuple(topic["topic"] for topic in load_topics())
    if unknown := [topic for topic in magpie.topics or () if topic not in known]:
        raise UserError(f"synthesize.queries.topics: {unknown[0]!r} is not built in; choose among {', '.join(known)}")
    return magpie.topics or known


def _build_block(states: TopicStates, build_requests: Callable[[list[PlannedQuery]], pa.Table], numbers: pa.Table) -> pa.Table:
    return build_requests(plan(states, numbers["id"].to_pylist()))


def _build_requests(config: SynthesizeConfig, magpie: MagpieQueries, model: ModelFolder, queries: list[PlannedQuery]) -> pa.Table:
    tokenizer = get_tokenizer(model)
    stops = find_user_turn_stops(tokenizer)
    shared = {
        "top_k": magpie.top_k,
        "max_tokens": magpie.max_tokens,
        "stop": ["\n", *stops["stop"]],
        "stop_token_ids": stops["stop_token_ids"],
    }
    generator = fingerprint_generator(config, model)
    requests: list[GenerationRequest] = []
    for query in queries:
        query_id = format_query_id(query.number)
        seed = keyed_int(config.seed, "query", query_id) % 2**31
        prompt = render_user_turn_prefix(tokenizer, render_steering_turn(query.topic, query.wording))
        sampling = {**shared, "temperature": query.temperature, "seed": seed}
        requests.append(new_request(generator, query_id, prompt, encode(tokenizer, [prompt])[0].ids, sampling, topic=query.topic))
    return pa.Table.from_pylist(requests, schema=REQUEST_SCHEMA)


def _trim(result: GenerationResult) -> GenerationResult:
    """Cut a query that ran into its token limit after its last complete sentence. Answers are never cut: their end is learned."""
    trimmed = None if result["finished"] else cut_to_whole_sentences(result["text"])
    return result if trimmed is None else {**result, "text": trimmed, "finished": True}


def _to_query(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"query_id": row["row_id"], "topic": row["topic"], "query": row["text"], "reference": None}
