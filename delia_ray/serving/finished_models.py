"""The finished models of a run."""

import re
from collections.abc import Mapping
from pathlib import Path

from delia_ray.core.artifacts import MANIFEST, MODEL_KIND, Artifact
from delia_ray.core.errors import UserError
from delia_ray.core.layout import BASE, RunLayout
from delia_ray.core.storage.paths import to_uri
from delia_ray.core.storage.transfer import fetch
from delia_ray.placement import Engine
from delia_ray.serving.forms import ServedModel, as_adapter, explain_no_adapter

_ARM = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


def use_stored_dtype(engine: Engine, models: Mapping[str, Artifact]) -> Engine:
    """Return ``engine`` with the precision in which ``models`` were stored, if its ``dtype`` is ``auto``."""
    dtypes = [model.manifest.request["dtype"] for model in models.values() if "dtype" in model.manifest.request]
    return engine.model_copy(update={"dtype": dtypes[0]}) if dtypes and engine.dtype == "auto" else engine


def find_adapter(run: Path, arm: str, base: str) -> ServedModel | None:
    """Find the model of an arm that was finished by now, if it can be served as an adapter over the base model of a fingerprint."""
    if not _ARM.fullmatch(arm):  # it comes from a request, and must not lead out of the run's folder
        return None
    folder = RunLayout(run).of_arm(arm, "model")
    if not fetch(folder / MANIFEST).exists():
        return None
    model = Artifact.open(folder, MODEL_KIND)
    return as_adapter(arm, model) if explain_no_adapter(model, base) is None else None


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
