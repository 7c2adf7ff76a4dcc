"""The stage ``diverse``: the model's own answers to the queries."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import ray.data

from delia_ray.artifacts import Artifact, Counts, Input, Workspace, build_once
from delia_ray.config import Config
from delia_ray.errors import UserError
from delia_ray.models import ModelFolder, encode, stop_ids, tokenizer_of, without_reasoning
from delia_ray.models.chat import hides_reasoning, keeps_answer
from delia_ray.models.control_tokens import ControlTokens
from delia_ray.records import EXCHANGE_KIND, EXCHANGE_SCHEMA, keyed_int
from delia_ray.synthesis.config import GenerationEngine, Sampling, SynthesizeConfig
from delia_ray.synthesis.draws import DRAW_SCHEMA, JUDGED_SCHEMA, Draw, Drawn, new_draw
from delia_ray.synthesis.filters import refuse_answer
from delia_ray.synthesis.generation import blocks_of
from delia_ray.synthesis.prompts import answer_prompt, control_tokens
from delia_ray.synthesis.site import Site, draw_rows, judged, part_rows, sorted_out, source
from delia_ray.synthesis.structure import Structure, has_form, structured_outputs

STAGE = "diverse/3"


class DiverseRequest(Config):
    """What makes one set of answers different from another."""

    engine: GenerationEngine
    mode: str
    answers: Sampling
    system_prompt: str | None
    structured: Structure | None
    draws_per_query: int
    seed: int


def answer(config: SynthesizeConfig, queries: Artifact, site: Site, out: Path) -> Artifact:
    """The model's own answers to every query; in mode ``foreign``, the answers that came with them.

    Raises:
        UserError: no query is left to answer, the engine fails too often, or the cluster cannot hold the engines.
    """
    if not queries.manifest.counts["rows"]:
        raise UserError(
            f"synthesize.queries: none of {queries.manifest.counts['rejected']:g} queries can be used; "
            f"{queries.data / 'rejects'} has the reasons, give others or raise synthesize.queries.rows"
        )
    request = DiverseRequest.model_validate({name: getattr(config, name) for name in DiverseRequest.model_fields})

    def write(workspace: Workspace) -> Counts:
        site.connect()
        asked = ray.data.read_parquet(str(queries.data / "kept"), override_num_blocks=blocks_of(int(queries.manifest.counts["rows"])))
        judge = partial(_judged, config.structured, control_tokens(tokenizer_of(site.model)), site.model)
        if config.mode == "foreign":
            given = asked.map_batches(partial(_given, config, site.model, judge), batch_format="pyarrow")
            given.write_parquet(str(workspace.inflight / "judged"), mode=ray.data.SaveMode.OVERWRITE)
            return sorted_out(workspace.inflight / "judged", workspace.data, "answer", EXCHANGE_SCHEMA, _exchange)
        draws = asked.map_batches(partial(_draws, config, site.model), batch_format="pyarrow")
        drawn = draw_rows(config, draws, judge, "answer", site, workspace.inflight)
        return part_rows(drawn, "answer", site, workspace.data, EXCHANGE_SCHEMA, _exchange)

    inputs: dict[str, Input] = {"model": site.model, "queries": queries}
    return build_once(out, stage=STAGE, kind=EXCHANGE_KIND, request=request, inputs=inputs, provenance=site.provenance, write=write)


def _draws(config: SynthesizeConfig, model: ModelFolder, queries: pa.Table) -> pa.Table:
    tokenizer = tokenizer_of(model)
    form = {} if config.structured is None else {"structured_outputs": structured_outputs(config.structured)}
    ends: dict[str, Any] = {"stop_token_ids": stop_ids(tokenizer, None)}
    if hides_reasoning(tokenizer):
        ends["skip_special_tokens"] = False  # else a block of reasoning would come without what marks it
    draws: list[Draw] = []
    for query in queries.to_pylist():
        prompt = answer_prompt(tokenizer, query, config.system_prompt, config.mode)
        ids = encode(tokenizer, [prompt])[0].ids
        for row_id in answer_ids(query["query_id"], config.draws_per_query):
            sampling = {**config.sampling.model_dump(), **form, **ends, "seed": keyed_int(config.seed, "answer", row_id) % 2**31}
            draws.append(new_draw(source(config, model), row_id, prompt, ids, sampling, topic=query["topic"], query=query["query"]))
    return pa.Table.from_pylist(draws, schema=DRAW_SCHEMA)


def answer_ids(query_id: str, draws: int) -> list[str]:
    """The ids of a query's answers; the first is the query's own, however many there are."""
    return [query_id, *(f"{query_id}.{number}" for number in range(1, draws))]


def _judged(form: Structure | None, control: ControlTokens, model: ModelFolder, drawn: Drawn) -> dict[str, Any]:
    """As ``judged``, of the answer without a block of reasoning, and of what the chat template would make of it. One that had to have a
    form is refused without it, and many queries may have the same one."""
    row = judged(refuse_answer, control, {**drawn, "text": without_reasoning(drawn["text"])})
    if not row["reason"] and not keeps_answer(tokenizer_of(model), row["query"], row["text"]):
        row["reason"] = "changed by the chat template"
    if form is None:
        return row
    return {**row, "reason": row["reason"] or ("" if has_form(form, row["text"]) else "out of form"), "scope": row["query"]}


def _given(config: SynthesizeConfig, model: ModelFolder, judge: Callable[[Drawn], dict[str, Any]], queries: pa.Table) -> pa.Table:
    """Judged rows whose texts are the references, in the shape of drawn ones."""
    tokenizer = tokenizer_of(model)
    rows: list[dict[str, Any]] = []
    for query in queries.to_pylist():
        text = (query["reference"] or "").strip()
        prompt = answer_prompt(tokenizer, query, config.system_prompt, config.mode)
        lengths = [len(encoding.ids) for encoding in encode(tokenizer, [prompt, text])]
        row = judge(
            {"key": 0, "row_id": query["query_id"], "text": text, "finished": True, "prompt_tokens": lengths[0],
             "answer_tokens": lengths[1], "topic": query["topic"], "query": query["query"], "error": ""}
        )  # fmt: skip
        rows.append(row if text else {**row, "reason": "no reference"})
    return pa.Table.from_pylist(rows, schema=JUDGED_SCHEMA)


def _exchange(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"exchange_id": row["row_id"], "topic": row["topic"], "query": row["query"], "answer": row["text"],
            "prompt_tokens": row["prompt_tokens"], "answer_tokens": row["answer_tokens"]}  # fmt: skip
