"""Compute learned metrics in Ray tasks, each with the Python environment of its metric's package."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import numpy as np
import ray
from numpy.typing import NDArray
from ray import cloudpickle
from ray.exceptions import RayTaskError, RuntimeEnvSetupError

from delia_ray.core.errors import UserError
from delia_ray.learned_metrics import worker
from delia_ray.learned_metrics.config import LearnedMetrics
from delia_ray.learned_metrics.worker import MetricSample
from delia_ray.placement import LearnedMetricWorkers
from delia_ray.tasks.answer_metrics import LEARNED_METRICS

_PACKAGES: Mapping[str, Sequence[str]] = {
    "comet": ("unbabel-comet==2.2.7", "setuptools<81"),
    "bleurt": ("bleurt-pytorch==0.0.1", "transformers>=4.25,<5", "sentencepiece>=0.1.97"),
}
"""Metric -> packages that Ray installs if ``placement.learned_metrics.runtime_env`` is null."""
# COMET's checkpoint is a pickle: load only tensors and plain values from it.
_ENVIRONMENT_VARIABLES = {"TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1", "TOKENIZERS_PARALLELISM": "false"}


def find_weight_files(names: Sequence[str], learned_metrics: LearnedMetrics) -> dict[str, Path]:
    """Find the files of weights of the learned metrics among ``names``: role -> file.

    Raises:
        UserError: a file is missing.
    """
    files: dict[str, Path] = {}
    if "comet" in names:
        assert learned_metrics.comet is not None, "Settings requires it"
        checkpoint = learned_metrics.comet.checkpoint
        files |= {"metric comet": checkpoint, "metric comet's settings": checkpoint.parent.parent / "hparams.yaml"}
    if "bleurt" in names:
        assert learned_metrics.bleurt is not None, "Settings requires it"
        files |= {f"metric bleurt's {file.name}": file for file in sorted(learned_metrics.bleurt.weights.glob("*")) if file.is_file()}
        files.setdefault("metric bleurt's config.json", learned_metrics.bleurt.weights / "config.json")
    for role, file in files.items():
        if not file.is_file():
            key, name = ("comet.checkpoint", "Unbabel/wmt22-comet-da") if "comet" in role else ("bleurt.weights", "lucadiliello/BLEURT-20")
            raise UserError(
                f"learned_metrics.{key}: there is no {file}; download the weights (`hf download {name}`), or take the metric out"
            )
    return files


def compute_learned_scores(
    names: Sequence[str], learned_metrics: LearnedMetrics, samples: Sequence[MetricSample], workers: LearnedMetricWorkers
) -> dict[str, NDArray[np.float64]]:
    """Compute metric -> ``[N]`` scores of ``samples``, for the learned metrics among ``names``.

    Raises:
        UserError: a metric's environment cannot be created, its weights cannot be loaded, or a score is not finite.
    """
    cloudpickle.register_pickle_by_value(cast(ModuleType, worker))
    references = {name: _submit(name, learned_metrics, samples, workers) for name in names if name in LEARNED_METRICS}
    return {name: _check_scores(name, _get_scores(name, reference)) for name, reference in references.items()}


def _check_scores(name: str, scores: Sequence[float]) -> NDArray[np.float64]:
    scores_N = np.array(scores, np.float64)
    if (failures := np.flatnonzero(~np.isfinite(scores_N))).size:
        row = failures[0]
        raise UserError(f"learned_metrics.{name}: it gives test row {row + 1} the score {scores_N[row]}; check its weights")
    return scores_N


def _submit(name: str, learned_metrics: LearnedMetrics, samples: Sequence[MetricSample], workers: LearnedMetricWorkers) -> Any:
    """Submit the Ray task of a metric and return its object reference."""
    environment = workers.runtime_env or {"pip": {"packages": list(_PACKAGES[name]), "pip_check": False}}
    variables = {**_ENVIRONMENT_VARIABLES, **environment.get("env_vars", {})}
    options: dict[str, Any] = {
        "num_cpus": workers.num_cpus, "num_gpus": workers.num_gpus, "max_calls": 1, "runtime_env": {**environment, "env_vars": variables}
    }  # fmt: skip
    if learned_metrics.comet is not None and name == "comet":
        encoder = None if learned_metrics.comet.encoder is None else str(learned_metrics.comet.encoder.resolve())
        arguments = (str(learned_metrics.comet.checkpoint.resolve()), encoder, workers.batch_rows, workers.num_gpus)
        return ray.remote(**options)(worker.score_with_comet).remote(list(samples), *arguments)
    assert learned_metrics.bleurt is not None, "Settings requires it"
    arguments = (str(learned_metrics.bleurt.weights.resolve()), workers.batch_rows, workers.num_gpus)
    return ray.remote(**options)(worker.score_with_bleurt).remote(list(samples), *arguments)


def _get_scores(name: str, reference: Any) -> list[float]:
    try:
        return ray.get(reference)
    except RuntimeEnvSetupError as error:
        reason = str(error).strip().splitlines()[-1]
        raise UserError(
            f"placement.learned_metrics.runtime_env: {name}'s environment cannot be made ({reason}); name one that has "
            f"{', '.join(_PACKAGES[name])}, for example {{py_executable: /path/to/bin/python}}"
        ) from None
    except RayTaskError as error:
        reason = str(error).strip().splitlines()[-1]
        raise UserError(f"learned_metrics.{name}: it stopped with {reason!r}; see the log of this run, and check its weights") from None
