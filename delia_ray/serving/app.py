"""The Ray Serve application that serves finished models through an OpenAI-compatible API."""

from collections.abc import Sequence
from typing import Any

from ray import serve
from ray.serve import Application
from ray.serve.llm import LLMConfig, build_llm_deployment

from delia_ray.models import resolve_dtype
from delia_ray.models.exported import read_rank
from delia_ray.placement import Engine, Replicas
from delia_ray.ray_runtime.capacity import bundles_of_replica
from delia_ray.ray_runtime.cluster import build_worker_environment
from delia_ray.ray_runtime.resources import is_local_cluster
from delia_ray.ray_runtime.vllm_arguments import build_engine_kwargs, build_quantization_kwargs, choose_quantized_dtype
from delia_ray.serving.engine import ModelServer
from delia_ray.serving.engine_specs import EngineSpec
from delia_ray.serving.options import EndpointOptions
from delia_ray.serving.router import ModelRouter
from delia_ray.upstream.vllm_lora import build_adapter_kwargs

# vLLM's prefix cache holds whole blocks only. Its default block on a CPU is 128 tokens, longer than most system prompts; its CPU
# kernels need a multiple of 32.
_BLOCK_SIZE = 32

# Serve sees only by a check that a replica has died. One that shares its cores with others answers late; Serve's default of ten seconds
# would restart it.
_HEALTH_CHECK = {"health_check_period_s": 2, "health_check_timeout_s": 120}

_SPIN_COUNT = "10000"
"""How often a thread of libgomp looks for work before it sleeps. By default it holds its core for a millisecond, which on a machine with
several engines the others need: three answered 0.5 requests a second, and 1.3 so, and one answers as many as before."""

_LATER_ADAPTERS = 4
"""Places in an engine for adapters that are finished while it serves."""
_MANY = 2**20
"""Requests, where none is one too many."""


def build_application(
    specs: Sequence[EngineSpec], replicas: Replicas, engine: Engine, max_model_len: int, options: EndpointOptions
) -> Application:
    """Build the application that serves models under their names.

    Args:
        specs: the engines. The replicas of a single one receive requests themselves; before several there is a router.
        replicas: number of replicas of each engine, and their resources.
        engine: vLLM engine settings of each replica.
        max_model_len: longest prompt and answer together, in tokens.
    """
    if len(specs) == 1:
        return _build_server(specs[0], replicas, engine, max_model_len, serve.ingress()(ModelServer), options)
    servers = {spec.name: _build_server(spec, replicas, engine, max_model_len, ModelServer, options) for spec in specs}
    ongoing = _count_ongoing(options)
    router: Any = serve.deployment(serve.ingress()(ModelRouter), ray_actor_options={"num_cpus": 1}, max_ongoing_requests=ongoing)
    return router.bind(servers, specs, options)


def _count_ongoing(options: EndpointOptions) -> int:
    """Requests that Serve lets reach a replica: more than ``max_requests``, which is for the replica to refuse, with health checks."""
    return 2 * (options.access.max_requests or _MANY)


def _build_server(
    spec: EngineSpec, replicas: Replicas, engine: Engine, max_model_len: int, server: type, options: EndpointOptions
) -> Application:
    # This process may see no GPU.
    precision = str(resolve_dtype(engine.dtype)).removeprefix("torch.") if replicas.on_cpu else engine.dtype
    precision = choose_quantized_dtype(precision, replicas.quantization)
    config = LLMConfig.model_validate(
        {
            "model_loading_config": {"model_id": spec.name, "model_source": str(spec.model.folder.resolve())},
            "accelerator_config": {"kind": "cpu" if replicas.on_cpu else "gpu"},
            "placement_group_config": {"bundles": [dict(bundle) for bundle in bundles_of_replica(replicas)]},
            "deployment_config": {
                "autoscaling_config": {
                    "min_replicas": replicas.size,
                    "max_replicas": max(replicas.size, replicas.max_size),
                    "target_ongoing_requests": engine.max_num_seqs,  # what an engine answers at once; the others would wait in it
                },
                "max_ongoing_requests": _count_ongoing(options),
                "ray_actor_options": {"num_cpus": 0},  # the replica actor runs in the first bundle
                "max_constructor_retry_count": 1,  # a model that fails to load once fails again
                **_HEALTH_CHECK,
            },
            "engine_kwargs": {
                **build_engine_kwargs(engine, precision, max_model_len, replicas),
                **build_quantization_kwargs(replicas.quantization),
                **_build_more_kwargs(spec, replicas, options),
                "enable_prefix_caching": True,
                "block_size": _BLOCK_SIZE,
            },
            "runtime_env": {"env_vars": {**build_worker_environment(is_local=is_local_cluster()), **_build_threads_environment(replicas)}},
            "log_engine_metrics": True,
        }
    )
    bound = {"spec": spec, "options": options}
    return build_llm_deployment(config, deployment_cls=server, name_prefix="ModelServer:", bind_kwargs=bound)


def _build_threads_environment(replicas: Replicas) -> dict[str, str]:
    return {"GOMP_SPINCOUNT": _SPIN_COUNT} if replicas.on_cpu else {}


def _build_more_kwargs(spec: EngineSpec, replicas: Replicas, options: EndpointOptions) -> dict[str, Any]:
    """Build the arguments that not every engine has."""
    ranks = [read_rank(model.folder) for model in spec.adapters]
    more = build_adapter_kwargs(ranks, _LATER_ADAPTERS if options.run else 0) if ranks else {}
    if replicas.tool_parser:
        more |= {"enable_auto_tool_choice": True, "tool_call_parser": replicas.tool_parser}
    if options.access.max_tokens:  # also of requests that name no limit
        more["override_generation_config"] = {"max_new_tokens": options.access.max_tokens}
    return more
