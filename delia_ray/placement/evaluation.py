"""Processes of the evaluation besides the endpoint (``placement.lm_eval``, ``placement.learned_metrics``)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from delia_ray.core.config import Config


class LmEvalProcess(Config):
    """lm-eval, a separate process that sends requests to the endpoint."""

    python: Path | None = None
    """Python interpreter that has ``lm_eval`` installed. null: this one."""
    concurrent_requests: int = Field(default=16, ge=1)
    """Concurrent requests to the endpoint."""
    timeout_s: int = Field(default=600, ge=1)
    """Timeout of a request, in seconds."""


class LearnedMetricWorkers(Config):
    """Ray tasks that compute learned metrics, one for each metric."""

    num_cpus: float = Field(default=1.0, gt=0)
    """CPUs for each task."""
    num_gpus: int = Field(default=0, ge=0)
    """GPUs for each task."""
    batch_rows: int = Field(default=16, ge=1)
    """Rows in a batch."""
    runtime_env: Mapping[str, Any] | None = None
    """Ray runtime environment with the metric's package, for example ``{py_executable: /path/to/bin/python}``, a Python of the same
    version with the same Ray. null: Ray installs the package with pip."""
