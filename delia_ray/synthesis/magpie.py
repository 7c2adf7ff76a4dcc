"""Queries that the model writes itself, from the user-turn prefix alone (Magpie, Xu et al., arXiv 2406.08464)."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import pyarrow as pa
import ray.data

from delia_ray.artifacts import Adopted, Counts, Workspace
from delia_ray.models import load_tokenizer
from delia_ray.records import QUERY_SCHEMA, keyed_int
from delia_ray.synthesis.config import MagpieQueries, SynthesizeConfig
from delia_ray.synthesis.draws import DRAW_SCHEMA, Draw, Drawn, new_draw
from delia_ray.synthesis.filters import refuse_query, whole_sentences
from delia_ray.synthesis.prompts import control_tokens, query_row, user_turn_prefix
from delia_ray.synthesis.site import Site, generate_rows, judged, source, tokenizer_of

_ROWS_PER_BLOCK = 10_000


def draw_queries(config: SynthesizeConfig, magpie: MagpieQueries, site: Site, workspace: Workspace) -> Counts:
    """``magpie.rows`` queries, the topics taking turns."""
    assert magpie.rows is not None, "the pipeline sets the number of queries"
    site.connect()
    draws = ray.data.range(magpie.rows, override_num_blocks=max(1, magpie.rows // _ROWS_PER_BLOCK)).map_batches(
        partial(_draws, config, magpie, site.model), batch_format="pyarrow"
    )
    judge = partial(judged, refuse_query, control_tokens(load_tokenizer(site.model.path)))
    return generate_rows(config, draws, lambda drawn: judge(_trimmed(drawn)), "query", site, workspace, QUERY_SCHEMA, _query)


def _draws(config: SynthesizeConfig, magpie: MagpieQueries, model: Adopted, numbers: pa.Table) -> pa.Table:
    tokenizer = tokenizer_of(model.path)
    draws: list[Draw] = []
    for number in numbers["id"].to_pylist():
        row = query_row(number)
        seed = keyed_int(config.seed, "query", row["query_id"]) % 2**31
        sampling = {"temperature": magpie.temperature, "top_k": magpie.top_k, "max_tokens": magpie.max_tokens, "stop": ["\n"], "seed": seed}
        prompt = user_turn_prefix(tokenizer, row["system"])
        draws.append(new_draw(source(config, model), row["query_id"], prompt, sampling, topic=row["topic"]))
    return pa.Table.from_pylist(draws, schema=DRAW_SCHEMA)


def _trimmed(drawn: Drawn) -> Drawn:
    """A query that ran into its limit, cut after its last whole sentence. Answers are never cut: their end is learnt."""
    whole = None if drawn["finished"] else whole_sentences(drawn["text"])
    return drawn if whole is None else {**drawn, "text": whole, "finished": True}


def _query(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"query_id": row["row_id"], "topic": row["topic"], "query": row["text"], "reference": None}
