"""The finished models of a run."""

from collections.abc import Container, Mapping
from pathlib import Path

from delia_ray.core.artifacts import MANIFEST, MODEL_KIND, Artifact
from delia_ray.core.errors import UserError
from delia_ray.core.layout import BASE, RunLayout
from delia_ray.core.mirrored_run import pull_manifests
from delia_ray.core.storage.paths import to_uri
from delia_ray.core.storage.transfer import fetch
from delia_ray.placement import Engine
from delia_ray.serving.engine_specs import ServedModel, describe_adapter, explain_merged


def use_stored_dtype(engine: Engine, models: Mapping[str, Artifact]) -> Engine:
    """Return ``engine`` with the precision in which ``models`` were stored, if its ``dtype`` is ``auto``."""
    dtypes = [model.manifest.request["dtype"] for model in models.values() if "dtype" in model.manifest.request]
    return engine.model_copy(update={"dtype": dtypes[0]}) if dtypes and engine.dtype == "auto" else engine


def find_adapters(run: Path, base: ServedModel, known: Container[str]) -> list[ServedModel]:
    """Find the models that can be served as adapters over a base model, but for those that are known by name."""
    pull_manifests(run)
    models = {name: model for name, model in find_finished_models(run).items() if name not in known}
    fingerprint, quantization = base.metadata["fingerprint"], base.metadata["quantization"]
    return [describe_adapter(name, model, quantization) for name, model in models.items() if explain_merged(model, fingerprint) is None]


def check_unchanged(model: ServedModel) -> None:
    """Refuse a model that was built anew since it was described: what is said of it would be another's.

    Raises:
        UserError: it was, or is gone.
    """
    file = fetch(model.artifact / MANIFEST)
    if not file.exists() or Artifact.open(model.artifact, MODEL_KIND).fingerprint != model.metadata["fingerprint"]:
        raise UserError(f"{to_uri(model.artifact)} is not what it was when the endpoint was started; start the endpoint again")


def find_finished_models(run: Path) -> dict[str, Artifact]:
    """Find the finished models below ``run``: arm -> model, the base model first, then the arms by name.

    Raises:
        UserError: there is none, or the folder of a model holds another kind of artifact.
    """
    layout = RunLayout(run)
    arms = [arm for arm in layout.list_arms() if arm != BASE]  # arms/base holds scores, but no model
    folders = {BASE: layout.base, **{arm: layout.of_arm(arm, "model") for arm in arms}}
    models = {name: Artifact.open(folder, MODEL_KIND) for name, folder in folders.items() if (folder / MANIFEST).exists()}
    if not models:
        raise UserError(f"{to_uri(run)} holds no finished model; build one first (`delia export`), or name another run")
    return models
