"""Prompts in, texts out, on actors. The only module that uses ``ray.data.llm``."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict, assert_never

import ray.data

from delia_ray.placement import ActorPool, Engine
from delia_ray.runtime import check_pool, engine_kwargs
from delia_ray.synthesis.config import EchoEngine, VllmEngine


class Draw(TypedDict):
    """A prompt and how to continue it."""

    row_id: str
    prompt: str
    sampling: dict[str, Any]
    """vLLM's sampling parameters, ``seed`` and ``max_tokens`` among them."""
    topic: str
    query: str
    """Carried through: what the row is about, and the query where the prompt asks for its answer."""


class Drawn(TypedDict):
    """What came back."""

    row_id: str
    text: str
    finished: bool
    """Whether the model stopped by itself within ``max_tokens``."""
    prompt_tokens: int
    answer_tokens: int
    topic: str
    query: str
    error: str
    """Empty, or why the engine could not answer this row."""


def generate(
    draws: ray.data.Dataset, kind: VllmEngine | EchoEngine, model: Path, engine: Engine, pool: ActorPool, max_model_len: int
) -> ray.data.Dataset:
    """Continue each ``Draw`` and give a ``Drawn`` back, in no particular order. Lazy: it runs when the result is consumed."""
    match kind:
        case EchoEngine():
            return draws.map(_echo)
        case VllmEngine():
            return _vllm(draws, model, engine, pool, max_model_len)
        case _:
            assert_never(kind)


def _echo(draw: dict[str, Any]) -> dict[str, Any]:
    words = draw["prompt"].split()
    text = f"{draw['sampling']['seed'] % 1000} " + " ".join(reversed(words[-8:]))
    return {"row_id": draw["row_id"], "text": text.replace("<|", "").replace("|>", ""), "finished": True,
            "prompt_tokens": len(words), "answer_tokens": 9, "topic": draw["topic"], "query": draw["query"], "error": ""}  # fmt: skip


def _vllm(draws: ray.data.Dataset, model: Path, engine: Engine, pool: ActorPool, max_model_len: int) -> ray.data.Dataset:
    from ray.data.llm import build_processor, vLLMEngineProcessorConfig  # noqa: PLC0415  imports transformers

    from delia_ray.models import resolve_dtype  # noqa: PLC0415

    check_pool(pool, "placement.synthesize")
    dtype = str(resolve_dtype(engine.dtype)).removeprefix("torch.")
    bundle = {"CPU": pool.num_cpus, "GPU": 1} if pool.num_gpus else {"CPU": pool.num_cpus}
    config = vLLMEngineProcessorConfig(
        model_source=str(model),
        batch_size=pool.batch_rows,
        max_concurrent_batches=pool.concurrent_batches,
        max_tasks_in_flight_per_actor=2 * pool.concurrent_batches,
        concurrency=(pool.size, pool.size),
        engine_kwargs=engine_kwargs(engine, dtype, max_model_len, pool.num_gpus),
        placement_group_config={"bundle_per_worker": bundle},
        # Prompts arrive rendered and texts leave decoded, so vLLM's own tokenizer does all there is to do.
        chat_template_stage=False,
        tokenize_stage=False,
        detokenize_stage=False,
        should_continue_on_error=True,
        log_engine_metrics=False,
    )
    process = build_processor(
        config,
        preprocess=_request,
        postprocess=_drawn,
    )
    return process(draws)


def _request(row: Mapping[str, Any]) -> dict[str, Any]:
    carried = {name: row[name] for name in ("row_id", "prompt", "topic", "query")}
    return {**carried, "sampling_params": row["sampling"], "limit": row["sampling"]["max_tokens"]}


def _drawn(row: Mapping[str, Any]) -> Drawn:
    error = str(row.get("__inference_error__") or "")
    tokens = int(row.get("num_generated_tokens") or 0)
    return {
        "row_id": row["row_id"],
        "text": "" if error else row["generated_text"].strip(),
        "finished": tokens < row["limit"],
        "prompt_tokens": int(row.get("num_input_tokens") or 0),
        "answer_tokens": tokens,
        "topic": row["topic"],
        "query": row["query"],
        "error": error,
    }
