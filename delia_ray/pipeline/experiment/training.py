"""Cells trained side by side, by Ray Tune. The only module that uses it."""

from collections.abc import Mapping
from typing import Any

import ray
from ray import tune

from delia_ray.core.artifacts import Provenance
from delia_ray.core.errors import UserError
from delia_ray.core.mirrored_run import pull_manifests
from delia_ray.core.progress import ProgressLine, SilentProgress
from delia_ray.core.storage.objects import locate, remove
from delia_ray.pipeline.experiment.config import ExperimentSettings
from delia_ray.pipeline.run import Run
from delia_ray.ray_runtime.capacity import count_concurrent_trainings


def train_all(settings: ExperimentSettings, names: list[str], line: ProgressLine, provenance: Provenance) -> None:
    """Mix, train and export the arms ``names``, as many at a time as the cluster has room for. What all share is finished.

    What a cell has finished is an artifact, so the same call again goes on with the others; Tune's own record is not kept.

    Raises:
        UserError: a cell cannot be built.
    """
    if not names:
        return
    record = settings.run.path.resolve() / ".tune"
    remove(record)
    finished, (name, store) = _FinishedCounter(), locate(record)
    build: Any = tune.with_resources(tune.with_parameters(_trial, settings=settings, provenance=provenance), {"cpu": 0.01})
    tuner = tune.Tuner(
        build,
        param_space={"name": tune.grid_search(names)},
        tune_config=tune.TuneConfig(max_concurrent_trials=count_concurrent_trainings(settings.placement.finetune)),
        run_config=tune.RunConfig(storage_path=name, storage_filesystem=store, name="cells", verbose=0, callbacks=[finished]),
    )
    with line.track(finished, len(names), "models"):
        results = tuner.fit()
    remove(record)
    pull_manifests(settings.run.path.resolve())
    for error in results.errors:
        raise error
    for result in results:
        if refused := (result.metrics or {}).get("refused"):
            raise UserError(str(refused))


class _FinishedCounter(tune.Callback):
    """Counts the models that are finished."""

    def __init__(self) -> None:
        self._rows = 0

    def read(self) -> tuple[int, int]:
        return self._rows, 0

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._rows += 1


def _trial(config: Mapping[str, Any], settings: ExperimentSettings, provenance: Provenance) -> dict[str, Any]:
    # Training waits for a signal, which only the main thread may: a trial has a thread, a task its process. And what a trial starts
    # would have to fit into the trial's own place.
    build = ray.remote(num_cpus=0, max_calls=1, scheduling_strategy="DEFAULT")(_build)
    return {"refused": ray.get(build.remote(settings, config["name"], provenance))}


def _build(settings: ExperimentSettings, name: str, provenance: Provenance) -> str:
    """Return the message of a ``UserError``, or an empty string."""
    try:
        with Run(settings, SilentProgress(), provenance) as run:
            run.model_of(name)
    except UserError as error:
        return str(error)
    return ""
