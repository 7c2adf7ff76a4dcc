"""Which engine answers for which model: one for each merged model, or one for a base model and all adapters over it."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from delia_ray.core.artifacts import Artifact
from delia_ray.core.layout import BASE
from delia_ray.models.exported import ADAPTER, MERGED, read_parity
from delia_ray.placement import Replicas

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServedModel:
    """A model that requests can name."""

    name: str
    metadata: Mapping[str, Any]
    """What ``/v1/models`` says of it: fingerprint, form, parity, base, commit."""
    created: int = 0
    """Second since 1970 when it was exported."""
    adapter: Path | None = None
    """What makes it of the engine's model; None if it is that model."""


@dataclass(frozen=True)
class EnginePlan:
    """An engine, the model that it loads, and the names that it answers to."""

    folder: Path
    models: tuple[ServedModel, ...]

    @property
    def name(self) -> str:
        """The name of the model that it loads."""
        return next(model.name for model in self.models if model.adapter is None)

    @property
    def adapters(self) -> dict[str, Path]:
        """Name -> adapter, of the models that have one."""
        return {model.name: model.adapter for model in self.models if model.adapter is not None}


def plan_engines(models: Mapping[str, Artifact], replicas: Replicas, base: Artifact | None = None) -> list[EnginePlan]:
    """Plan the engines for ``models``.

    Args:
        base: what the models were trained from; it is served, too, where an engine loads it for adapters.
    """
    adapted: dict[str, Artifact] = {}
    if base is not None and replicas.prefers_adapters:
        for name, model in models.items():
            reason = explain_no_adapter(model, base.fingerprint)
            if reason is None:
                adapted[name] = model
            elif model.fingerprint != base.fingerprint:
                logger.info("%s is served merged: %s", name, reason)
    plans: list[EnginePlan] = []
    if base is not None and adapted:
        served = [as_adapter(name, model) for name, model in adapted.items()]
        plans.append(EnginePlan(base.data, (_as_merged(BASE, base), *served)))
    merged = {name: model for name, model in models.items() if name not in adapted and not (plans and name == BASE)}
    return [*plans, *(EnginePlan(model.data, (_as_merged(name, model),)) for name, model in merged.items())]


def explain_no_adapter(model: Artifact, base: str) -> str | None:
    """Explain why a model is not served as an adapter over the base model of a fingerprint; None if it can be."""
    if model.manifest.inputs.get("base") != base:
        return "it was trained from another base model"
    certificate = read_parity(model).get(ADAPTER)
    if certificate is None:
        return "it was exported without an adapter"
    return certificate.get("reason")


def as_adapter(name: str, model: Artifact) -> ServedModel:
    """Describe a model that is served as an adapter."""
    return ServedModel(name, _describe(model, ADAPTER), int(model.manifest.created_at.timestamp()), model.data / ADAPTER)


def _as_merged(name: str, model: Artifact) -> ServedModel:
    return ServedModel(name, _describe(model, MERGED), int(model.manifest.created_at.timestamp()))


def _describe(model: Artifact, form: str) -> dict[str, Any]:
    manifest = model.manifest
    return {
        "fingerprint": model.fingerprint,
        "form": form,
        "parity": read_parity(model).get(form),
        "base": manifest.inputs.get("base"),
        "commit": manifest.git_commit,
    }
