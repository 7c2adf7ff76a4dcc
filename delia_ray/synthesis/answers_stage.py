"""The stage ``diverse``: the model's own answers to the queries."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from delia_ray.core.artifacts import Artifact, Counts, Input, Workspace, build_once
from delia_ray.core.config import Config
from delia_ray.core.errors import UserError
from delia_ray.core.records import EXCHANGE_KIND, EXCHANGE_SCHEMA, keyed_int
from delia_ray.core.storage.paths import to_uri
from delia_ray.models import ModelFolder, encode, find_stop_token_ids, get_tokenizer, strip_reasoning
from delia_ray.models.chat import has_special_reasoning_tokens, is_answer_preserved
from delia_ray.models.control_tokens import ControlTokens
from delia_ray.ray_runtime.metrics import record_rejects
from delia_ray.ray_runtime.tables import read_parquet, write_parquet
from delia_ray.synthesis.config import GenerationEngine, Sampling, SynthesizeConfig
from delia_ray.synthesis.context import (
    GenerationContext,
    apply_filter,
    fingerprint_generator,
    generate_rows,
    split_kept_and_rejected,
    split_rows_in_worker,
)
from delia_ray.synthesis.filtering.filters import reject_answer
from delia_ray.synthesis.generation.generate import count_blocks
from delia_ray.synthesis.prompts import control_tokens, render_answer_prompt
from delia_ray.synthesis.requests import FILTERED_SCHEMA, REQUEST_SCHEMA, GenerationRequest, GenerationResult, new_request
from delia_ray.synthesis.structured_output import Structure, build_structured_outputs, has_form

STAGE = "diverse/4"


class DiverseRequest(Config):
    """Request of the stage: the settings that determine the answers."""

    engine: GenerationEngine
    mode: str
    answers: Sampling
    system_prompt: str | None
    structured: Structure | None
    draws_per_query: int
    seed: int


def generate_answers(config: SynthesizeConfig, queries: Artifact, context: GenerationContext, out: Path) -> Artifact:
    """Generate the model's answers to every query; in mode ``foreign``, take the reference answers.

    Raises:
        UserError: there is no query to answer, the engine fails too often, or the cluster cannot hold the engines.
    """
    if not queries.manifest.counts["rows"]:
        raise UserError(
            f"synthesize.queries: none of {queries.manifest.counts['rejected']:g} queries can be used; "
            f"{to_uri(queries.data / 'rejects')} has the reasons, give others or raise synthesize.queries.rows"
        )
    request = DiverseRequest.model_validate({name: getattr(config, name) for name in DiverseRequest.model_fields})

    def write(workspace: Workspace) -> Counts:
        context.connect()
        blocks = count_blocks(int(queries.manifest.counts["rows"]))
        query_rows = read_parquet(queries.data / "kept", override_num_blocks=blocks)
        control = control_tokens(get_tokenizer(context.model))
        answer_filter = partial(_filter_answer, config.structured, control, context.model)
        if config.mode == "foreign":
            rows = query_rows.map_batches(partial(_filter_references, config, context.model, answer_filter), batch_format="pyarrow")
            write_parquet(rows, workspace.inflight / "filtered", replaces=True)
            counts = split_rows_in_worker(workspace.inflight / "filtered", workspace.data, "answer", EXCHANGE_SCHEMA, _to_exchange)
        else:
            requests = query_rows.map_batches(partial(_build_requests, config, context.model), batch_format="pyarrow")
            filtered, cost = generate_rows(config, requests, answer_filter, "answer", context, workspace.inflight)
            counts = split_kept_and_rejected(filtered, cost, "answer", context, workspace.data, EXCHANGE_SCHEMA, _to_exchange)
        record_rejects(workspace.data / "rejects")
        return counts

    inputs: dict[str, Input] = {"model": context.model, "queries": queries}
    return build_once(out, stage=STAGE, kind=EXCHANGE_KIND, request=request, inputs=inputs, provenance=context.provenance, write=write)


def _build_requests(config: SynthesizeConfig, model: ModelFolder, queries: pa.Table) -> pa.Table:
    tokenizer, generator = get_tokenizer(model), fingerprint_generator(config, model)
    shared: dict[str, Any] = {**config.sampling.model_dump(), "stop_token_ids": find_stop_token_ids(tokenizer, None)}
    if config.structured is not None:
        shared["structured_outputs"] = build_structured_outputs(config.structured)
    if has_special_reasoning_tokens(tokenizer):
        shared["skip_special_tokens"] = False  # else the markers of a reasoning block would be missing
    requests: list[GenerationRequest] = []
    for query in queries.to_pylist():
        prompt = render_answer_prompt(tokenizer, query, config.system_prompt, config.mode)
        ids = encode(tokenizer, [prompt])[0].ids
        for row_id in list_answer_ids(query["query_id"], config.draws_per_query):
            sampling = {**shared, "seed": keyed_int(config.seed, "answer", row_id) % 2**31}
            requests.append(new_request(generator, row_id, prompt, ids, sampling, topic=query["topic"], query=query["query"]))
    return pa.Table.from_pylist(requests, schema=REQUEST_SCHEMA)


def list_answer_ids(query_id: str, answers: int) -> list[str]:
    """List the ids of a query's answers; the first is the query's own id, whatever their number."""
    return [query_id, *(f"{query_id}.{number}" for number in range(1, answers))]


def _filter_answer(form: Structure | None, control: ControlTokens, model: ModelFolder, result: GenerationResult) -> dict[str, Any]:
    """Filter an answer, without its reasoning block.

    Beside the reasons of ``reject_answer``, an answer is rejected that the chat template would change, or that violates ``form``. With
    a form, many queries may have the same answer.
    """
    row = apply_filter(reject_answer, control, {**result, "text": strip_reasoning(result["text"])})
    if not row["reason"] and not is_answer_preserved(get_tokenizer(model), row["query"], row["text"]):
        row["reason"] = "changed by the chat template"
    if form is None:
        return row
    return {**row, "reason": row["reason"] or ("" if has_form(form, row["text"]) else "out of form"), "scope": row["query"]}


def _filter_references(
    config: SynthesizeConfig, model: ModelFolder, answer_filter: Callable[[GenerationResult], dict[str, Any]], queries: pa.Table
) -> pa.Table:
    """Filter the queries' reference answers as if they were generated."""
    tokenizer = get_tokenizer(model)
    rows: list[dict[str, Any]] = []
    for query in queries.to_pylist():
        text = (query["reference"] or "").strip()
        prompt = render_answer_prompt(tokenizer, query, config.system_prompt, config.mode)
        prompt_tokens, answer_tokens = (len(encoding.ids) for encoding in encode(tokenizer, [prompt, text]))
        row = answer_filter(
            {"key": 0, "row_id": query["query_id"], "text": text, "finished": True, "prompt_tokens": prompt_tokens,
             "answer_tokens": answer_tokens, "topic": query["topic"], "query": query["query"], "error": ""}
        )  # fmt: skip
        rows.append(row if text else {**row, "reason": "no reference"})
    return pa.Table.from_pylist(rows, schema=FILTERED_SCHEMA)


def _to_exchange(row: Mapping[str, Any]) -> dict[str, Any]:
    return {"exchange_id": row["row_id"], "topic": row["topic"], "query": row["query"], "answer": row["text"],
            "prompt_tokens": row["prompt_tokens"], "answer_tokens": row["answer_tokens"]}  # fmt: skip
