"""Which engine answers for which model: one for each merged model, or one for a base model and all adapters over it."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from delia_ray.core.artifacts import Artifact
from delia_ray.core.layout import BASE
from delia_ray.models.exported import ADAPTER, MERGED, name_form, read_parity
from delia_ray.placement import Replicas

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServedModel:
    """A model that requests can name."""

    name: str
    artifact: Path
    folder: Path
    """Its weights: of the whole model, or of an adapter."""
    metadata: Mapping[str, Any]
    """What ``/v1/models`` says of it: fingerprint, form, quantization, parity, base, commit."""
    created: int
    """Second since 1970 when it was exported."""

    @property
    def is_adapter(self) -> bool:
        """Whether it is an adapter over the engine's model."""
        return self.metadata["form"] == ADAPTER


@dataclass(frozen=True)
class EngineSpec:
    """An engine: the model that it loads, and the adapters over it."""

    model: ServedModel
    adapters: tuple[ServedModel, ...] = ()

    @property
    def name(self) -> str:
        """The name of the model that it loads."""
        return self.model.name

    @property
    def models(self) -> tuple[ServedModel, ...]:
        """What it answers for."""
        return (self.model, *self.adapters)


def assign_engines(models: Mapping[str, Artifact], replicas: Replicas, base: Artifact | None = None) -> list[EngineSpec]:
    """Assign ``models`` to engines.

    Args:
        base: what the models were trained from; it is served, too, where an engine loads it for adapters.
    """
    adapters: dict[str, ServedModel] = {}
    quantization = replicas.quantization
    if base is not None and replicas.prefers_adapters:
        reasons = {name: explain_merged(model, base.fingerprint) for name, model in models.items()}
        adapters = {name: describe_adapter(name, model, quantization) for name, model in models.items() if reasons[name] is None}
        for name, reason in reasons.items():
            if reason is not None and name != BASE:
                logger.info("%s is served merged: %s", name, reason)
    specs: list[EngineSpec] = []
    if base is not None and adapters:
        specs.append(EngineSpec(_describe(BASE, base, base.data, BASE, quantization), tuple(adapters.values())))
    merged = {name: model for name, model in models.items() if name not in adapters and not (specs and name == BASE)}
    for name, model in merged.items():
        specs.append(EngineSpec(_describe(name, model, model.data, BASE if name == BASE else MERGED, quantization)))
    return specs


def explain_merged(model: Artifact, base: str) -> str | None:
    """Explain why a model is served merged and not as an adapter over the base model of a fingerprint; None if it can be."""
    if model.manifest.inputs.get("base") != base:
        return "it was trained from another base model"
    certificate = read_parity(model).get(ADAPTER)
    if certificate is None:
        return "it was exported without an adapter"
    return certificate.get("reason")


def describe_adapter(name: str, model: Artifact, quantization: str | None) -> ServedModel:
    """Describe a model that is served as an adapter."""
    return _describe(name, model, model.data / ADAPTER, ADAPTER, quantization)


def _describe(name: str, model: Artifact, folder: Path, form: str, quantization: str | None) -> ServedModel:
    manifest = model.manifest
    metadata = {
        "fingerprint": model.fingerprint,
        "form": form,
        "quantization": quantization,
        "parity": read_parity(model).get(name_form(form, quantization)),
        "base": manifest.inputs.get("base"),
        "commit": manifest.git_commit,
    }
    return ServedModel(name, model.path, folder, metadata, int(manifest.created_at.timestamp()))
