"""Ray Serve application for ``serve run serve/tuned.yaml``: an OpenAI-compatible endpoint for the finished models of a run."""

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from delia_ray.core.config import Config
from delia_ray.placement import Engine, Replicas

if TYPE_CHECKING:
    from ray.serve import Application


class Served(Config):
    """Arguments of the application (``args`` in the YAML). Host and port are in ``http_options``."""

    run: Path
    """Folder of the run."""
    replicas: Replicas = Replicas()
    """Number and resources of each model's replicas."""
    engine: Engine = Engine()
    """Resources and arguments of each replica's vLLM engine."""
    max_model_len: int = Field(default=1024, ge=16)
    """Longest prompt and answer together, in tokens."""


def build_app(args: Served) -> "Application":
    """Build the application that serves every finished model of ``args.run``; Serve parses ``args`` of the YAML as ``Served``.

    Raises:
        UserError: the run has no finished model.
    """
    from delia_ray.serving.app import build_application  # noqa: PLC0415  imports all of vLLM
    from delia_ray.serving.finished_models import find_finished_models, use_stored_dtype  # noqa: PLC0415

    models = find_finished_models(args.run)
    return build_application(models, args.replicas, use_stored_dtype(args.engine, models), args.max_model_len)
