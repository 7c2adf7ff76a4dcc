"""Completion of generation requests by an engine, as a Ray dataset. The only module that uses ``ray.data.llm``."""

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, assert_never

import ray.data
from ray.data import TaskPoolStrategy

from delia_ray.core.storage.transfer import fetch
from delia_ray.placement import ActorPool, Engine
from delia_ray.ray_runtime.capacity import bundle_of_process
from delia_ray.ray_runtime.resources import is_local_cluster
from delia_ray.ray_runtime.tally import RayTally
from delia_ray.ray_runtime.vllm_arguments import build_engine_kwargs, build_quantization_kwargs, choose_quantized_dtype
from delia_ray.synthesis.config import CONTEXT_LENGTH, EchoEngine, GenerationEngine, OpenAIEngine, VllmEngine
from delia_ray.synthesis.engines.openai import complete_on_server
from delia_ray.synthesis.requests import RESULT_SCHEMA, copy_request_fields

_CPU_SAMPLER = "delia_ray.synthesis.engines.seeded_top_p:SeededTopP"
_NUCLEUS_PARAMETERS = ("temperature", "top_p", "seed")
"""What ``SeededTopP`` reads."""
_OTHER_PARAMETERS = ("max_tokens", "stop", "stop_token_ids", "structured_outputs", "skip_special_tokens")
"""What vLLM applies whoever samples: the end of a text, its form, and how it is decoded."""
_ENGINE_KWARGS: dict[str, Any] = {
    # Where a grammar allows white space between two fields, a model at a high temperature may generate nothing else.
    "structured_outputs_config": {"backend": "guidance", "disable_any_whitespace": True},
}


def generate(
    requests: ray.data.Dataset,
    backend: GenerationEngine,
    model: Path,
    engine: Engine,
    pool: ActorPool,
    tally: RayTally,
) -> ray.data.Dataset:
    """Complete each ``GenerationRequest``: a lazy dataset of ``GenerationResult`` in no particular order."""
    match backend:
        case EchoEngine():
            return requests.map(_echo)
        case VllmEngine():
            return _generate_with_vllm(requests, backend, model, engine, pool, tally)
        case OpenAIEngine():
            complete, compute = partial(complete_on_server, backend), TaskPoolStrategy(size=pool.most)
            return requests.map_batches(complete, batch_size=pool.batch_rows, batch_format="pyarrow", compute=compute)
        case _:
            assert_never(backend)


def _echo(request: dict[str, Any]) -> dict[str, Any]:
    words = request["prompt"].split()
    text = f"{json.loads(request['sampling'])['seed'] % 1000} " + " ".join(reversed(words[-8:]))
    return {**copy_request_fields(request), "text": text.replace("<|", "").replace("|>", ""), "finished": True,
            "prompt_tokens": len(words), "answer_tokens": 9, "error": ""}  # fmt: skip


def _generate_with_vllm(
    requests: ray.data.Dataset, backend: VllmEngine, model: Path, engine: Engine, pool: ActorPool, tally: RayTally
) -> ray.data.Dataset:
    from ray.data.llm import build_processor, vLLMEngineProcessorConfig  # noqa: PLC0415  imports transformers

    from delia_ray.models import resolve_dtype  # noqa: PLC0415
    from delia_ray.models.families import read_max_context_tokens  # noqa: PLC0415
    from delia_ray.models.folders import is_no_weight  # noqa: PLC0415
    from delia_ray.synthesis.engines.metered_vllm import add_metering  # noqa: PLC0415  imports vllm

    dtype = choose_quantized_dtype(str(resolve_dtype(engine.dtype)).removeprefix("torch."), backend.quantization)
    folder = fetch(model, is_no_weight)  # an engine fetches the weights
    length = min(engine.max_model_len or CONTEXT_LENGTH, read_max_context_tokens(folder))
    # A logits processor on a GPU would hold vLLM's newer model runner back, and each step would wait for it.
    sampler = {"logits_processors": [_CPU_SAMPLER]} if uses_cpu_sampler(engine, pool) else {}
    config = vLLMEngineProcessorConfig(
        model_source=str(folder),
        batch_size=pool.batch_rows,
        max_concurrent_batches=pool.concurrent_batches,
        max_tasks_in_flight_per_actor=2 * pool.concurrent_batches,
        concurrency=(pool.least, pool.most),
        engine_kwargs=build_engine_kwargs(engine, dtype, length, pool)
        | _ENGINE_KWARGS
        | sampler
        | build_quantization_kwargs(backend.quantization),
        placement_group_config={"bundle_per_worker": dict(bundle_of_process(pool))},
        # Prompts come rendered and tokenized, and vLLM detokenizes the texts itself.
        chat_template_stage=False,
        tokenize_stage=False,
        detokenize_stage=False,
        should_continue_on_error=True,
        log_engine_metrics=not is_local_cluster(),  # each token costs the engine time, and a local cluster has nobody to read them
    )
    processor = build_processor(config, preprocess=partial(_to_vllm_row, bool(sampler)), postprocess=_from_vllm_row)
    return add_metering(processor, tally)(requests).map(_to_result)


def uses_cpu_sampler(engine: Engine, pool: ActorPool) -> bool:
    """Whether the engines sample from a nucleus with ``SeededTopP``."""
    return engine.sampler == "cpu" or (engine.sampler == "auto" and pool.on_cpu)


def _to_vllm_row(cpu_sampler: bool, row: Mapping[str, Any]) -> dict[str, Any]:
    sampling = json.loads(row["sampling"])
    return {
        **copy_request_fields(row),
        "tokenized_prompt": row["prompt_ids"],
        "sampling_params": build_sampling_params(sampling, cpu_sampler=cpu_sampler),
        "limit": sampling["max_tokens"],
    }


def build_sampling_params(sampling: Mapping[str, Any], *, cpu_sampler: bool) -> dict[str, Any]:
    """Build vLLM's sampling parameters.

    Args:
        cpu_sampler: leave top-p sampling to ``SeededTopP``; the request is then greedy to vLLM. A request with a parameter that
            ``SeededTopP`` does not know (``top_k``, say) stays vLLM's, since greedy decoding would ignore it.
    """
    known = (*_NUCLEUS_PARAMETERS, *_OTHER_PARAMETERS)
    is_unknown = any(key not in known and (value or value is False) for key, value in sampling.items())
    if is_unknown or not sampling["temperature"] or not cpu_sampler:
        return dict(sampling)
    nucleus = {"temperature": sampling["temperature"], "top_p": sampling.get("top_p") or 1.0, "seed": sampling["seed"]}
    others = {key: sampling[key] for key in _OTHER_PARAMETERS if key in sampling}
    return {**others, "temperature": 0.0, "extra_args": {"nucleus": nucleus}}


def _from_vllm_row(row: Mapping[str, Any]) -> dict[str, Any]:
    tokens = int(row.get("num_generated_tokens") or 0)
    return {**copy_request_fields(row), "text": row["generated_text"].strip(), "finished": tokens < row["limit"],
            "prompt_tokens": int(row.get("num_input_tokens") or 0), "answer_tokens": tokens, "error": ""}  # fmt: skip


def _to_result(row: Mapping[str, Any]) -> dict[str, Any]:
    """Build the ``GenerationResult`` also of a row that the engine failed on; such rows skip ``_from_vllm_row``."""
    if error := str(row.get("__inference_error__") or ""):
        return {**copy_request_fields(row), "text": "", "finished": False, "prompt_tokens": 0, "answer_tokens": 0, "error": error}
    return {name: row[name] for name in RESULT_SCHEMA.names}
