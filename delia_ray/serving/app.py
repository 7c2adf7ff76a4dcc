"""An OpenAI-compatible Ray Serve application over finished models."""

from collections.abc import Mapping
from typing import Any

from ray.serve import Application
from ray.serve.llm import LLMConfig, build_openai_app  # pyright: ignore[reportUnknownVariableType]
from ray.serve.llm.ingress import OpenAiIngress

from delia_ray.artifacts import Artifact
from delia_ray.models import resolve_dtype
from delia_ray.placement import Engine, Replicas
from delia_ray.runtime import engine_kwargs, worker_environment
from delia_ray.serving.engine import LeanServer

# Shared beginnings of prompts are kept in whole blocks only. vLLM's default on a CPU is 128 tokens, longer than most system
# prompts; its CPU kernels want a multiple of 32.
_BLOCK_TOKENS = 32

# A replica that shares its cores with others answers late, not never; Serve's default of ten seconds would restart it.
_PATIENCE = {"health_check_period_s": 30, "health_check_timeout_s": 120}


class CatalogueIngress(OpenAiIngress):
    """Ray Serve LLM's router, whose ``/v1/models`` also tells which artifact each model is."""

    def __init__(self, *args: Any, fingerprints: Mapping[str, str], **kwargs: Any):
        super().__init__(*args, **kwargs)  # pyright: ignore[reportUnknownMemberType]
        self._fingerprints = dict(fingerprints)

    async def model(self, model_id: str) -> Any:
        """The model's card with ``metadata.fingerprint``, or null where there is no such model."""
        card = await super().model(model_id)
        if card is None:
            return None
        return card.model_copy(update={"metadata": {**card.metadata, "fingerprint": self._fingerprints[model_id]}})


def build(models: Mapping[str, Artifact], replicas: Replicas, engine: Engine, max_model_len: int) -> Application:
    """The application that serves each of ``models`` under its name.

    Args:
        models: name -> finished model.
        replicas: how many of each, and on what.
        engine: how each uses its machine.
        max_model_len: longest prompt and answer together, in tokens.
    """
    ingress = {"ingress_cls": CatalogueIngress, "ingress_extra_kwargs": {"fingerprints": {n: m.fingerprint for n, m in models.items()}}}
    configs = [_model_config(name, model, replicas, engine, max_model_len) for name, model in models.items()]
    return build_openai_app({"llm_configs": configs, "ingress_cls_config": ingress})


def _model_config(name: str, model: Artifact, replicas: Replicas, engine: Engine, max_model_len: int) -> LLMConfig:
    on_cpu = replicas.num_gpus == 0
    precision = str(resolve_dtype(engine.dtype)).removeprefix("torch.") if on_cpu else engine.dtype  # this process may see no GPU
    return LLMConfig.model_validate(
        {
            "model_loading_config": {"model_id": name, "model_source": str(model.data.resolve())},
            "accelerator_config": {"kind": "cpu" if on_cpu else "gpu"},
            "placement_group_config": {"bundles": _bundles(replicas)},
            "deployment_config": {
                "autoscaling_config": {"min_replicas": replicas.size, "max_replicas": max(replicas.size, replicas.max_size)},
                "ray_actor_options": {"num_cpus": 0},  # the first bundle is the replica's own
                "max_constructor_retry_count": 1,  # what cannot be loaded once cannot be loaded later
                **_PATIENCE,
            },
            "engine_kwargs": {
                **engine_kwargs(engine, precision, max_model_len, replicas.num_gpus),
                "enable_prefix_caching": True,
                "block_size": _BLOCK_TOKENS,
            },
            "runtime_env": {"env_vars": worker_environment()},
            "server_cls": LeanServer,
        }
    )


def _bundles(replicas: Replicas) -> list[dict[str, float]]:
    """Resources of one replica, a bundle for each GPU; on a CPU one for all."""
    first, rest = {"CPU": replicas.num_cpus}, max(0, replicas.num_gpus - 1)
    return [{**first, "GPU": 1.0} if replicas.num_gpus else first, *[{"GPU": 1.0}] * rest]
