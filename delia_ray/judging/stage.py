"""Rows judged by learned metrics, as Ray tasks in the judges' own environments."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import numpy as np
import ray
from numpy.typing import NDArray
from ray import cloudpickle
from ray.exceptions import RayTaskError, RuntimeEnvSetupError

from delia_ray.errors import UserError
from delia_ray.judging import worker
from delia_ray.judging.config import Judges
from delia_ray.judging.worker import Judged
from delia_ray.placement import JudgeWorkers
from delia_ray.tasks.metric_names import JUDGED

_PACKAGES: Mapping[str, Sequence[str]] = {
    "comet": ("unbabel-comet==2.2.7", "setuptools<81"),
    "bleurt": ("bleurt-pytorch==0.0.1", "transformers>=4.25,<5", "sentencepiece>=0.1.97"),
}
"""What Ray installs for each, where no environment is named."""
# COMET's weights are a pickle: only tensors and plain values may be in it.
_VARIABLES = {"TORCH_FORCE_WEIGHTS_ONLY_LOAD": "1", "TOKENIZERS_PARALLELISM": "false"}


def judge_files(names: Sequence[str], judges: Judges) -> dict[str, Path]:
    """Role -> file that a learned metric among ``names`` is made from.

    Raises:
        UserError: weights are not there.
    """
    files: dict[str, Path] = {}
    if "comet" in names:
        assert judges.comet is not None, "Settings asks for it"
        checkpoint = judges.comet.checkpoint
        files |= {"metric comet": checkpoint, "metric comet's settings": checkpoint.parent.parent / "hparams.yaml"}
    if "bleurt" in names:
        assert judges.bleurt is not None, "Settings asks for it"
        files |= {f"metric bleurt's {file.name}": file for file in sorted(judges.bleurt.weights.glob("*")) if file.is_file()}
        files.setdefault("metric bleurt's config.json", judges.bleurt.weights / "config.json")
    for role, file in files.items():
        if not file.is_file():
            key, name = ("comet.checkpoint", "Unbabel/wmt22-comet-da") if "comet" in role else ("bleurt.weights", "lucadiliello/BLEURT-20")
            raise UserError(f"judges.{key}: there is no {file}; download the weights (`hf download {name}`), or take the metric out")
    return files


def judge_rows(names: Sequence[str], judges: Judges, rows: Sequence[Judged], how: JudgeWorkers) -> dict[str, NDArray[np.float64]]:
    """Metric -> ``[N]`` scores of the ``rows``, for the learned metrics among ``names``.

    Raises:
        UserError: a judge's environment cannot be made, its weights cannot be read there, or it gives a row no number.
    """
    cloudpickle.register_pickle_by_value(cast(ModuleType, worker))
    asked = {name: _ask(name, judges, rows, how) for name in names if name in JUDGED}
    return {name: _numbers(name, _answer(name, reference)) for name, reference in asked.items()}


def _numbers(name: str, scores: Sequence[float]) -> NDArray[np.float64]:
    scores_N = np.array(scores, np.float64)
    if (odd := np.flatnonzero(~np.isfinite(scores_N))).size:
        raise UserError(f"judges.{name}: it gives test row {odd[0] + 1} the score {scores_N[odd[0]]}; check its weights")
    return scores_N


def _ask(name: str, judges: Judges, rows: Sequence[Judged], how: JudgeWorkers) -> Any:
    environment = how.runtime_env or {"pip": {"packages": list(_PACKAGES[name]), "pip_check": False}}
    variables = {**_VARIABLES, **environment.get("env_vars", {})}
    options: dict[str, Any] = {
        "num_cpus": how.num_cpus, "num_gpus": how.num_gpus, "max_calls": 1, "runtime_env": {**environment, "env_vars": variables}
    }  # fmt: skip
    if judges.comet is not None and name == "comet":
        encoder = None if judges.comet.encoder is None else str(judges.comet.encoder.resolve())
        given = (str(judges.comet.checkpoint.resolve()), encoder, how.batch_rows, how.num_gpus)
        return ray.remote(**options)(worker.judge_with_comet).remote(list(rows), *given)
    assert judges.bleurt is not None, "Settings asks for it"
    given = (str(judges.bleurt.weights.resolve()), how.batch_rows, how.num_gpus)
    return ray.remote(**options)(worker.judge_with_bleurt).remote(list(rows), *given)


def _answer(name: str, reference: Any) -> list[float]:
    try:
        return ray.get(reference)
    except RuntimeEnvSetupError as error:
        reason = str(error).strip().splitlines()[-1]
        raise UserError(
            f"placement.judges.runtime_env: {name}'s environment cannot be made ({reason}); name one that has "
            f"{', '.join(_PACKAGES[name])}, for example {{py_executable: /path/to/bin/python}}"
        ) from None
    except RayTaskError as error:
        reason = str(error).strip().splitlines()[-1]
        raise UserError(f"judges.{name}: it stopped with {reason!r}; see the log of this run, and check its weights") from None
