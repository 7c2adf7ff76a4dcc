"""What can be known to fail before a run's first artifact is written: its settings and rows, its model, and the cluster."""

from delia_ray.core.artifacts import MANIFEST
from delia_ray.core.layout import BASE
from delia_ray.models.families import check_architecture
from delia_ray.pipeline.chain import Chain
from delia_ray.pipeline.validate import validate
from delia_ray.ray_runtime.capacity import Demand, check_possible, demand_of_pool, demand_of_replicas, demand_of_workers
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
    if not (run.layout.base / MANIFEST).exists():
        check_architecture(run.local_model.path)
    _check_adapters(run)
    serves = serves and not all(run.is_finished(name, "scores") for name in (BASE, *run.arms))
    validate(run.settings, run.local_model, serves=serves and not run.uses_cluster)
    if run.uses_cluster and (demands := _list_demands(run, serves=serves, trains=trains)):
        run.connect()
        for demand in demands:
            check_possible(demand)
        if serves:
            check_endpoint(run.placement.serve)


def _list_demands(run: Chain, *, serves: bool, trains: bool) -> list[Demand]:
    """List what the stages that are not finished reserve."""
    settings, placement = run.settings, run.placement
    pools = {arm.pool for arm in run.arms.values() if settings.resolve_mix(arm).ratio}
    generates = isinstance(settings.synthesize.engine, VllmEngine) and not all(
        (run.layout.of_pool(pool, "diverse") / MANIFEST).exists() for pool in pools
    )
    is_trained = all(run.is_finished(arm, "checkpoint") for arm in run.arms)
    return [
        *([demand_of_pool(placement.synthesize, "placement.synthesize")] if generates else []),
        *([demand_of_workers(placement.finetune)] if trains and not is_trained else []),
        *([demand_of_replicas(placement.serve, 1)] if serves else []),
    ]


def _check_adapters(run: Chain) -> None:
    """Try each kind of adapter that an arm is still to be trained with."""
    adapters: dict[Lora, str] = {}
    """Adapter -> the key that asks for it."""
    for name, arm in run.arms.items():
        parameters = run.settings.resolve_finetune(arm).parameters
        if isinstance(parameters, Lora) and not run.is_finished(name, "checkpoint"):
            adapters.setdefault(parameters, "finetune.parameters" if arm.parameters is None else f"arms.{name}.parameters")
    if adapters:
        from delia_ray.training.lora import check_lora  # noqa: PLC0415  PEFT takes seconds to import

        for lora, key in adapters.items():
            check_lora(run.local_model.path, lora, key)
