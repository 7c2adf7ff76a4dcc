"""The Ray Serve application that serves finished models through an OpenAI-compatible API."""

from collections.abc import Sequence
from typing import Any

from ray import serve
from ray.serve import Application
from ray.serve.llm import LLMConfig, build_llm_deployment

from delia_ray.models import resolve_dtype
from delia_ray.placement import Engine, Replicas
from delia_ray.ray_runtime.capacity import bundles_of_replica
from delia_ray.ray_runtime.cluster import build_worker_environment
from delia_ray.ray_runtime.resources import is_local_cluster
from delia_ray.ray_runtime.vllm_arguments import build_adapter_kwargs, build_engine_kwargs
from delia_ray.serving.engine import ModelServer
from delia_ray.serving.entrance import Entrance
from delia_ray.serving.forms import EnginePlan
from delia_ray.serving.router import ModelRouter

# vLLM's prefix cache holds whole blocks only. Its default block on a CPU is 128 tokens, longer than most system prompts; its CPU
# kernels need a multiple of 32.
_BLOCK_SIZE = 32

# Serve sees only by a check that a replica has died. One that shares its cores with others answers late; Serve's default of ten seconds
# would restart it.
_HEALTH_CHECK = {"health_check_period_s": 2, "health_check_timeout_s": 120}

_LATER_ADAPTERS = 4
"""Places in an engine for adapters that are finished while it serves."""


def build_application(
    plans: Sequence[EnginePlan], replicas: Replicas, engine: Engine, max_model_len: int, entrance: Entrance
) -> Application:
    """Build the application that serves models under their names.

    Args:
        plans: an engine each. The replicas of a single one receive requests themselves; before several there is a router.
        replicas: number of replicas of each engine, and their resources.
        engine: vLLM engine settings of each replica.
        max_model_len: longest prompt and answer together, in tokens.
    """
    if len(plans) == 1:
        more = {"access": entrance.access, "keys": entrance.keys, "run": entrance.run}
        return _build_server(plans[0], replicas, engine, max_model_len, serve.ingress()(ModelServer), more)
    servers = {plan.name: _build_server(plan, replicas, engine, max_model_len, ModelServer, {}) for plan in plans}
    router: Any = serve.deployment(serve.ingress()(ModelRouter), ray_actor_options={"num_cpus": 1}, max_ongoing_requests=4096)
    return router.bind(servers, plans, entrance.access, entrance.keys)


def _build_server(
    plan: EnginePlan, replicas: Replicas, engine: Engine, max_model_len: int, server: type, more: dict[str, Any]
) -> Application:
    # This process may see no GPU.
    precision = str(resolve_dtype(engine.dtype)).removeprefix("torch.") if replicas.on_cpu else engine.dtype
    adapters, spare = list(plan.adapters.values()), _LATER_ADAPTERS if more.get("run") else 0
    config = LLMConfig.model_validate(
        {
            "model_loading_config": {"model_id": plan.name, "model_source": str(plan.folder.resolve())},
            "accelerator_config": {"kind": "cpu" if replicas.on_cpu else "gpu"},
            "placement_group_config": {"bundles": [dict(bundle) for bundle in bundles_of_replica(replicas)]},
            "deployment_config": {
                "autoscaling_config": {
                    "min_replicas": replicas.size,
                    "max_replicas": max(replicas.size, replicas.max_size),
                    "target_ongoing_requests": engine.max_num_seqs,  # what an engine answers at once; the others would wait in it
                },
                "max_ongoing_requests": 16 * engine.max_num_seqs,
                "ray_actor_options": {"num_cpus": 0},  # the replica actor runs in the first bundle
                "max_constructor_retry_count": 1,  # a model that fails to load once fails again
                **_HEALTH_CHECK,
            },
            "engine_kwargs": {
                **build_engine_kwargs(engine, precision, max_model_len, replicas),
                **(build_adapter_kwargs(adapters, spare) if adapters else {}),
                **({"enable_auto_tool_choice": True, "tool_call_parser": replicas.tool_parser} if replicas.tool_parser else {}),
                "enable_prefix_caching": True,
                "block_size": _BLOCK_SIZE,
            },
            "runtime_env": {"env_vars": build_worker_environment(is_local=is_local_cluster())},
            "log_engine_metrics": True,
        }
    )
    return build_llm_deployment(config, deployment_cls=server, name_prefix="ModelServer:", bind_kwargs={"plan": plan, **more})
