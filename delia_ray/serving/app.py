"""The Ray Serve application that serves finished models through an OpenAI-compatible API."""

from collections.abc import Mapping
from typing import Any

from ray.serve import Application
from ray.serve.llm import LLMConfig, build_openai_app  # pyright: ignore[reportUnknownVariableType]
from ray.serve.llm.ingress import OpenAiIngress

from delia_ray.core.artifacts import Artifact
from delia_ray.models import resolve_dtype
from delia_ray.placement import Engine, Replicas
from delia_ray.ray_runtime.capacity import bundles_of_replica
from delia_ray.ray_runtime.cluster import build_worker_environment
from delia_ray.ray_runtime.resources import is_local_cluster
from delia_ray.ray_runtime.vllm_arguments import build_engine_kwargs
from delia_ray.serving.engine import CpuLLMServer

# vLLM's prefix cache holds whole blocks only. Its default block on a CPU is 128 tokens, longer than most system prompts; its CPU
# kernels need a multiple of 32.
_BLOCK_SIZE = 32

# A replica that shares its cores with others answers health checks late; Serve's default of ten seconds would restart it.
_HEALTH_CHECK = {"health_check_period_s": 30, "health_check_timeout_s": 120}


class FinishedModelsIngress(OpenAiIngress):
    """Ray Serve LLM's OpenAI ingress, whose ``/v1/models`` also gives the fingerprint of each model's artifact."""

    def __init__(self, *args: Any, fingerprints: Mapping[str, str], **kwargs: Any):
        super().__init__(*args, **kwargs)  # pyright: ignore[reportUnknownMemberType]
        self._fingerprints = dict(fingerprints)

    async def model(self, model_id: str) -> Any:
        """Return the model's card with ``metadata.fingerprint``, or None if there is no such model."""
        card = await super().model(model_id)
        if card is None:
            return None
        return card.model_copy(update={"metadata": {**card.metadata, "fingerprint": self._fingerprints[model_id]}})


def build_application(models: Mapping[str, Artifact], replicas: Replicas, engine: Engine, max_model_len: int) -> Application:
    """Build the application that serves each of ``models`` under its name.

    Args:
        models: name -> finished model.
        replicas: number of replicas of each model, and their resources.
        engine: vLLM engine settings of each replica.
        max_model_len: longest prompt and answer together, in tokens.
    """
    fingerprints = {name: model.fingerprint for name, model in models.items()}
    ingress = {"ingress_cls": FinishedModelsIngress, "ingress_extra_kwargs": {"fingerprints": fingerprints}}
    configs = [_build_llm_config(name, model, replicas, engine, max_model_len) for name, model in models.items()]
    return build_openai_app({"llm_configs": configs, "ingress_cls_config": ingress})


def _build_llm_config(name: str, model: Artifact, replicas: Replicas, engine: Engine, max_model_len: int) -> LLMConfig:
    # This process may see no GPU.
    precision = str(resolve_dtype(engine.dtype)).removeprefix("torch.") if replicas.on_cpu else engine.dtype
    return LLMConfig.model_validate(
        {
            "model_loading_config": {"model_id": name, "model_source": str(model.data.resolve())},
            "accelerator_config": {"kind": "cpu" if replicas.on_cpu else "gpu"},
            "placement_group_config": {"bundles": [dict(bundle) for bundle in bundles_of_replica(replicas)]},
            "deployment_config": {
                "autoscaling_config": {"min_replicas": replicas.size, "max_replicas": max(replicas.size, replicas.max_size)},
                "ray_actor_options": {"num_cpus": 0},  # the replica actor runs in the first bundle
                "max_constructor_retry_count": 1,  # a model that fails to load once fails again
                **_HEALTH_CHECK,
            },
            "engine_kwargs": {
                **build_engine_kwargs(engine, precision, max_model_len, replicas),
                "enable_prefix_caching": True,
                "block_size": _BLOCK_SIZE,
            },
            "runtime_env": {"env_vars": build_worker_environment(is_local=is_local_cluster())},
            "log_engine_metrics": True,
            "server_cls": CpuLLMServer,
        }
    )
