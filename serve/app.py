"""Ray Serve application for ``serve run serve/tuned.yaml``: an OpenAI-compatible endpoint for the finished models of a run."""

import logging
from typing import TYPE_CHECKING

from pydantic import Field

from delia_ray.core.config import Config
from delia_ray.core.layout import BASE
from delia_ray.core.storage.config import StoredPath
from delia_ray.placement import Engine, Replicas

if TYPE_CHECKING:
    from ray.serve import Application

logger = logging.getLogger(__name__)


class ServeArguments(Config):
    """Arguments of the application (``args`` in the YAML). Host and port are in ``http_options``."""

    run: StoredPath
    """Folder of the run, or its URI in an object store."""
    replicas: Replicas = Replicas()
    """Number and resources of each model's replicas."""
    engine: Engine = Engine()
    """Resources and arguments of each replica's vLLM engine."""
    max_model_len: int = Field(default=1024, ge=16)
    """Longest prompt and answer together, in tokens."""


def build_app(args: ServeArguments) -> "Application":
    """Build the application that serves every finished model of ``args.run``; Serve parses ``args`` of the YAML as ``ServeArguments``.

    Raises:
        UserError: the run has no finished model.
    """
    from delia_ray.core.mirrored_run import pull_manifests  # noqa: PLC0415
    from delia_ray.serving.app import build_application  # noqa: PLC0415  imports all of vLLM
    from delia_ray.serving.engine_specs import assign_engines  # noqa: PLC0415
    from delia_ray.serving.finished_models import find_finished_models, use_stored_dtype  # noqa: PLC0415
    from delia_ray.serving.http.keys import VARIABLE, ApiKeys, read_keys  # noqa: PLC0415
    from delia_ray.serving.options import EndpointOptions  # noqa: PLC0415

    pull_manifests(args.run)
    models, access = find_finished_models(args.run), args.replicas.access
    specs, keys = assign_engines(models, args.replicas, models.get(BASE)), read_keys(access.keys)
    if not keys:
        logger.warning(
            "the endpoint asks for no key: name a file of keys in replicas.access.keys, or set %s, unless only you reach it", VARIABLE
        )
    options = EndpointOptions(access, ApiKeys(keys), args.run.resolve())
    return build_application(specs, args.replicas, use_stored_dtype(args.engine, models), args.max_model_len, options)
