"""What can be known to fail before a run's first artifact is written: its settings and rows, its model, and the cluster."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from delia_ray.core.artifacts import MANIFEST
from delia_ray.core.layout import BASE
from delia_ray.models import ModelFolder
from delia_ray.models.families import check_architecture
from delia_ray.pipeline.chain import Chain
from delia_ray.pipeline.validate import list_checks
from delia_ray.ray_runtime.capacity import Demand, check_possible, demand_of_pool, demand_of_replicas, demand_of_stage, demand_of_workers
from delia_ray.serving.endpoint import check_endpoint
from delia_ray.synthesis.config import VllmEngine
from delia_ray.training.config import Lora


def check_run(run: Chain, *, serves: bool, trains: bool) -> None:
    """Refuse a run that would stop halfway.

    Args:
        run: the run; what is finished of it is not checked again.
        serves: whether an endpoint will be opened.
        trains: whether arms will be trained.

    Raises:
        UserError: a row, a query, the model, the encoder, the port or the cluster is not usable.
    """
    serves = serves and not is_scored(run)
    for check in list_run_checks(run, run.local_model, serves=serves):
        check()
    if run.uses_cluster and (demands := _list_demands(run, serves=serves, trains=trains)):
        run.connect()
        for demand in demands:
            check_possible(demand)
        if serves:
            check_endpoint(run.placement.serve)


def list_run_checks(run: Chain, model: ModelFolder | None, *, serves: bool) -> list[Callable[[], object]]:
    """List the checks that need no cluster, in the order in which a run asks them; each raises a ``UserError`` where it refuses something.

    Args:
        run: the run; what is finished of it is not checked again.
        model: the folder of the model to tune; None lists those that need no model.
        serves: whether an endpoint will be opened.
    """
    checks: list[Callable[[], object]] = []
    if model is not None:
        if not (run.layout.base / MANIFEST).exists():
            checks.append(partial(check_architecture, model.path))
        tried = set[Lora]()
        checks += [partial(_check_adapter, run, model.path, name, tried) for name in run.arms]
    return checks + list_checks(run.settings, model, serves=serves and not run.uses_cluster)


def is_scored(run: Chain) -> bool:
    """Whether all of the run's scores are finished, so that no endpoint will be opened for them."""
    return all(run.is_finished(name, "scores") for name in (BASE, *run.arms))


def _check_adapter(run: Chain, model: Path, name: str, tried: set[Lora]) -> None:
    """Try the adapter of an arm that is still to be trained, unless it is one of ``tried``."""
    arm = run.arms[name]
    lora = run.settings.resolve_finetune(arm).parameters
    if isinstance(lora, Lora) and not run.is_finished(name, "checkpoint") and lora not in tried:
        from delia_ray.training.lora import check_lora  # noqa: PLC0415  PEFT takes seconds to import

        tried.add(lora)
        check_lora(model, lora, "finetune.parameters" if arm.parameters is None else f"arms.{name}.parameters")


def _list_demands(run: Chain, *, serves: bool, trains: bool) -> list[Demand]:
    """List what the stages that are not finished reserve."""
    settings, placement = run.settings, run.placement
    pools = {arm.pool for arm in run.arms.values() if settings.resolve_mix(arm).ratio}
    generates = isinstance(settings.synthesize.engine, VllmEngine) and not all(
        (run.layout.of_pool(pool, "diverse") / MANIFEST).exists() for pool in pools
    )
    is_trained = all(run.is_finished(arm, "checkpoint") for arm in run.arms)
    demands: list[Demand] = []
    if generates:
        demands += [
            demand_of_pool(placement.synthesize, "placement.synthesize"),
            demand_of_stage(placement.synthesize, "placement.synthesize"),
        ]
    if trains and not is_trained:
        demands.append(demand_of_workers(placement.finetune))
    if serves:
        demands += [demand_of_replicas(placement.serve, 1), demand_of_stage(placement.serve, "placement.serve")]
    return demands
