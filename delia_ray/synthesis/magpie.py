"""Queries that the model writes itself, from the user-turn prefix alone (Magpie, Xu et al., arXiv 2406.08464)."""

import shutil
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import pyarrow as pa
import ray.data

from delia_ray.artifacts import Counts, Workspace
from delia_ray.errors import UserError
from delia_ray.models import ModelFolder, encode, tokenizer_of, user_turn_prefix, user_turn_stops
from delia_ray.records import QUERY_SCHEMA, keyed_int
from delia_ray.synthesis.config import SynthesizeConfig
from delia_ray.synthesis.controller import Ask, Steerings, plan, start
from delia_ray.synthesis.draws import DRAW_SCHEMA, Draw, Drawn, new_draw
from delia_ray.synthesis.filters import refuse_query, whole_sentences
from delia_ray.synthesis.prompts import control_tokens, query_id, steering_turn, topics
from delia_ray.synthesis.query_config import DiversityController, MagpieQueries
from delia_ray.synthesis.site import Site, draw_rows, judged, part_rows, source
from delia_ray.synthesis.waves import LOG, Waves

_ROWS_PER_BLOCK = 10_000


def draw_queries(config: SynthesizeConfig, magpie: MagpieQueries, site: Site, workspace: Workspace) -> Counts:
    """``magpie.rows`` queries, the topics taking turns. A controller's log is beside them, in ``controller.jsonl``."""
    assert magpie.rows is not None, "the pipeline sets the number of queries"
    site.connect()
    write = partial(_draws, config, magpie, site.model)
    log = workspace.inflight / LOG
    names = chosen_topics(magpie)
    match magpie.controller:
        case None:
            numbers = ray.data.range(magpie.rows, override_num_blocks=max(1, magpie.rows // _ROWS_PER_BLOCK))
            draws = numbers.map_batches(partial(_in_turn, start(names, magpie.temperature), write), batch_format="pyarrow")
        case DiversityController() as settings:
            draws = Waves(settings, magpie.rows, names, magpie.temperature, write, log)
    judge = partial(judged, refuse_query, control_tokens(tokenizer_of(site.model)))
    drawn = draw_rows(config, draws, lambda each: judge(_trimmed(each)), "query", site, workspace.inflight)
    counts = part_rows(drawn, "query", site, workspace.data, QUERY_SCHEMA, _query)
    if magpie.controller is not None:
        shutil.copy(log, workspace.data / LOG)
    return counts


def chosen_topics(magpie: MagpieQueries) -> tuple[str, ...]:
    """The topics to steer towards.

    Raises:
        UserError: one is not built in.
    """
    known = tuple(topic["topic"] for topic in topics())
    if unknown := [topic for topic in magpie.topics or () if topic not in known]:
        raise UserError(f"synthesize.queries.topics: {unknown[0]!r} is not built in; choose among {', '.join(known)}")
    return magpie.topics or known


def _in_turn(steerings: Steerings, write: Callable[[list[Ask]], pa.Table], numbers: pa.Table) -> pa.Table:
    return write(plan(steerings, numbers["id"].to_pylist()))


def _draws(config: SynthesizeConfig, magpie: MagpieQueries, model: ModelFolder, asks: list[Ask]) -> pa.Table:
    tokenizer = tokenizer_of(model)
    stops = user_turn_stops(tokenizer)
    sampling = {
        "top_k": magpie.top_k,
        "max_tokens": magpie.max_tokens,
        "stop": ["\n", *stops["stop"]],
        "stop_token_ids": stops["stop_token_ids"],
    }
    draws: list[Draw] = []
    for ask in asks:
        name = query_id(ask.number)
        seed = keyed_int(config.seed, "query", name) % 2**31
        prompt = user_turn_prefix(tokenizer, steering_turn(ask.topic, ask.wording))
        how = {**sampling, "temperature": ask.temperature, "seed": seed}
        draws.append(new_draw(source(config, model), name, prompt, encode(tokenizer, [prompt])[0].ids, how, topic=ask.topic))
    return pa.Table.from_pylist(draws, schema=DRAW_SCHEMA)


def _trimmed(drawn: Drawn) -> Drawn:
    """A query that ran into its limit, cut after its last whole sentence. Answers are never cut: their end is learnt."""
    whole = None if drawn["finished"] else whole_sentences(drawn["text"])
    return drawn if whole is None else {**drawn, "text": whole, "finished": True}


def _query(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"query_id": row["row_id"], "topic": row["topic"], "query": row["text"], "reference": None}
