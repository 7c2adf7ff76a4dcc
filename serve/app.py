"""``serve run serve/tuned.yaml``: an OpenAI-compatible endpoint over the finished models of a run."""

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from delia_ray.config import Config
from delia_ray.placement import Engine, Replicas

if TYPE_CHECKING:
    from ray.serve import Application


class Served(Config):
    """``args`` of the application. Where it listens is said in ``http_options``, not here."""

    run: Path
    """Folder of the run."""
    replicas: Replicas = Replicas()
    """How many replicas each model has, and on what."""
    engine: Engine = Engine()
    """How each uses its machine."""
    max_model_len: int = Field(default=1024, ge=16)
    """Longest prompt and answer together, in tokens."""


def build_app(args: Served) -> "Application":
    """The application over every finished model of ``args.run``; Serve turns ``args`` of the YAML into ``Served``.

    Raises:
        UserError: the run holds no finished model.
    """
    from delia_ray.serving.app import build  # noqa: PLC0415  imports all of vLLM
    from delia_ray.serving.catalogue import as_stored, finished_models  # noqa: PLC0415

    models = finished_models(args.run)
    return build(models, args.replicas, as_stored(args.engine, models), args.max_model_len)
