"""The finished models of a run."""

from collections.abc import Mapping
from pathlib import Path

from delia_ray.core.artifacts import MANIFEST, MODEL_KIND, Artifact
from delia_ray.core.errors import UserError
from delia_ray.core.layout import BASE, RunLayout
from delia_ray.placement import Engine


def use_stored_dtype(engine: Engine, models: Mapping[str, Artifact]) -> Engine:
    """Return ``engine`` with the precision in which ``models`` were stored, if its ``dtype`` is ``auto``."""
    dtypes = [model.manifest.request["dtype"] for model in models.values() if "dtype" in model.manifest.request]
    return engine.model_copy(update={"dtype": dtypes[0]}) if dtypes and engine.dtype == "auto" else engine


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
        raise UserError(f"{run} holds no finished model; build one first (`delia export`), or name another run")
    return models
