"""Prompts in, texts out, on actors. The only module that uses ``ray.data.llm``."""

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, assert_never

import ray.data
from ray.data import TaskPoolStrategy

from delia_ray.placement import ActorPool, Engine
from delia_ray.runtime import RayTally, check_pool, engine_kwargs
from delia_ray.synthesis.config import EchoEngine, GenerationEngine, OpenAIEngine, VllmEngine
from delia_ray.synthesis.draws import DRAWN_SCHEMA, carried
from delia_ray.synthesis.remote import ask_server

_OURS: dict[str, Any] = {
    "logits_processors": ["delia_ray.synthesis.row_draws:NucleusDraws"],
    # Where a grammar allows white space between two fields, a hot model may write nothing else until its limit.
    "structured_outputs_config": {"backend": "guidance", "disable_any_whitespace": True},
}


def generate(
    draws: ray.data.Dataset, kind: GenerationEngine, model: Path, engine: Engine, pool: ActorPool, max_model_len: int, tally: RayTally
) -> ray.data.Dataset:
    """Continue each ``Draw`` and give a ``Drawn`` back, in no particular order. Lazy: it runs when the result is consumed."""
    match kind:
        case EchoEngine():
            return draws.map(_echo)
        case VllmEngine():
            return _vllm(draws, model, engine, pool, max_model_len, tally)
        case OpenAIEngine():
            ask = partial(ask_server, kind)
            return draws.map_batches(ask, batch_size=pool.batch_rows, batch_format="pyarrow", compute=TaskPoolStrategy(size=pool.size))
        case _:
            assert_never(kind)


def _echo(draw: dict[str, Any]) -> dict[str, Any]:
    words = draw["prompt"].split()
    text = f"{json.loads(draw['sampling'])['seed'] % 1000} " + " ".join(reversed(words[-8:]))
    return {**carried(draw), "text": text.replace("<|", "").replace("|>", ""), "finished": True,
            "prompt_tokens": len(words), "answer_tokens": 9, "error": ""}  # fmt: skip


def _vllm(draws: ray.data.Dataset, model: Path, engine: Engine, pool: ActorPool, max_model_len: int, tally: RayTally) -> ray.data.Dataset:
    from ray.data.llm import build_processor, vLLMEngineProcessorConfig  # noqa: PLC0415  imports transformers

    from delia_ray.models import resolve_dtype  # noqa: PLC0415
    from delia_ray.synthesis.metered_engine import metered  # noqa: PLC0415  imports vllm

    check_pool(pool, "placement.synthesize")
    dtype = str(resolve_dtype(engine.dtype)).removeprefix("torch.")
    bundle = {"CPU": pool.num_cpus, "GPU": 1} if pool.num_gpus else {"CPU": pool.num_cpus}
    config = vLLMEngineProcessorConfig(
        model_source=str(model),
        batch_size=pool.batch_rows,
        max_concurrent_batches=pool.concurrent_batches,
        max_tasks_in_flight_per_actor=2 * pool.concurrent_batches,
        concurrency=(pool.size, pool.size),
        engine_kwargs=engine_kwargs(engine, dtype, max_model_len, pool.num_gpus) | _OURS,
        placement_group_config={"bundle_per_worker": bundle},
        # Prompts arrive rendered and texts leave decoded, so vLLM's own tokenizer does all there is to do.
        chat_template_stage=False,
        tokenize_stage=False,
        detokenize_stage=False,
        should_continue_on_error=True,
        log_engine_metrics=False,
    )
    return metered(build_processor(config, preprocess=_request, postprocess=_drawn), tally)(draws).map(_landed)


def _request(row: Mapping[str, Any]) -> dict[str, Any]:
    sampling = json.loads(row["sampling"])
    return {
        **carried(row),
        "tokenized_prompt": row["prompt_ids"],
        "sampling_params": _sampling_params(sampling),
        "limit": sampling["max_tokens"],
    }


def _sampling_params(sampling: Mapping[str, Any]) -> dict[str, Any]:
    """vLLM's parameters; a nucleus is drawn from by ``NucleusDraws``, and the request is greedy to vLLM."""
    top_p, top_k = sampling.get("top_p") or 1.0, sampling.get("top_k") or 0
    if top_k or not sampling["temperature"]:
        return dict(sampling)
    ours = {"temperature": sampling["temperature"], "top_p": top_p, "seed": sampling["seed"]}
    others = {key: value for key, value in sampling.items() if key not in (*ours, "top_k")}
    return {**others, "temperature": 0.0, "extra_args": {"nucleus": ours}}


def _drawn(row: Mapping[str, Any]) -> dict[str, Any]:
    tokens = int(row.get("num_generated_tokens") or 0)
    return {**carried(row), "text": row["generated_text"].strip(), "finished": tokens < row["limit"],
            "prompt_tokens": int(row.get("num_input_tokens") or 0), "answer_tokens": tokens, "error": ""}  # fmt: skip


def _landed(row: Mapping[str, Any]) -> dict[str, Any]:
    """A ``Drawn`` of a row that the engine failed on, too: such rows pass by ``_drawn``, as they went in."""
    if error := str(row.get("__inference_error__") or ""):
        return {**carried(row), "text": "", "finished": False, "prompt_tokens": 0, "answer_tokens": 0, "error": error}
    return {name: row[name] for name in DRAWN_SCHEMA.names}
