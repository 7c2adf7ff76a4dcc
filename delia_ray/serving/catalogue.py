"""Which finished models a run holds."""

from collections.abc import Mapping
from pathlib import Path

from delia_ray.artifacts import MANIFEST, MODEL_KIND, Artifact
from delia_ray.errors import UserError
from delia_ray.placement import Engine

BASE = "base"
"""The name under which the start model, with the new tokens in its vocabulary but untrained, is served."""


def as_stored(engine: Engine, models: Mapping[str, Artifact]) -> Engine:
    """``engine`` in the precision that the run's models were stored in, where it leaves that open."""
    stored = [model.manifest.request["dtype"] for model in models.values() if "dtype" in model.manifest.request]
    return engine.model_copy(update={"dtype": stored[0]}) if stored and engine.dtype == "auto" else engine


def finished_models(run: Path) -> dict[str, Artifact]:
    """Arm -> model, for everything below ``run`` that is finished: the start model first, then the arms by name.

    Raises:
        UserError: there is none, or a folder in a model's place holds something else.
    """
    arms = sorted(arm for arm in (run / "arms").glob("*") if arm.name != BASE)  # arms/base holds scores, and no model of its own
    places = {BASE: run / "start", **{arm.name: arm / "model" for arm in arms}}
    found = {name: Artifact.open(place, MODEL_KIND) for name, place in places.items() if (place / MANIFEST).exists()}
    if not found:
        raise UserError(f"{run} holds no finished model; build one first (`delia export`), or name another run")
    return found
