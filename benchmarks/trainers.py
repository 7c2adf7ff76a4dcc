"""One turn of one trainer.  python -m benchmarks.trainers ARM [--full] [--rows N] [--precision P]

Every arm trains the same parameters of the same model in the same precision on the demo's mixture, throws its first steps
away and prints how many supervised tokens it learned from in how many seconds.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.inputs import PACK_TOKENS, PRECISIONS, PROVENANCE, ROWS, TOKEN, WARM_STEPS, Inputs, demo
from benchmarks.loops import join, parallel, timed, update
from benchmarks.rivals import accelerate, plain, trl
from delia_ray.models import load_tokenizer, token_ids
from delia_ray.placement import Kernels, TrainWorkers

KERNELS = Kernels(layers="compiled")


def ours(given: Inputs, workers: int = 1) -> dict[str, Any]:
    """This project as it is used: Ray Train, DeepSpeed, metrics."""
    from delia_ray.cli.terminal import StageLine
    from delia_ray.placement import Cluster
    from delia_ray.ray_runtime.cluster import connect
    from delia_ray.training.metrics.log import read_metrics
    from delia_ray.training.stage import FinetuneRequest, finetune

    with tempfile.TemporaryDirectory() as folder:
        request = FinetuneRequest(finetune=given.config, steps=WARM_STEPS + given.steps, new_tokens=(TOKEN,))
        line, out = StageLine("bench"), Path(folder) / "checkpoint"
        place = TrainWorkers(workers=workers, kernels=KERNELS)
        done = finetune(request, given.base, given.mixed, place, lambda _=None: connect(Cluster()), line, out, PROVENANCE)
        lines = read_metrics(done.data / "metrics.jsonl")[WARM_STEPS:]
    seconds = sum(line["tokens"] / line["tokens_per_second"] for line in lines)
    shares = [line["mfu"] for line in lines]
    return {"work": sum(line["supervised_tokens"] for line in lines), "seconds": seconds, "mfu": sorted(shares)[len(shares) // 2]}


def bare(given: Inputs) -> dict[str, Any]:
    """Ours without the system: a torch loop around the same sums, to see what Ray Train and DeepSpeed cost.

    Under ``torchrun`` it is DistributedDataParallel.
    """
    from delia_ray.training.data.packing import packs_for_rank
    from delia_ray.training.kernels.select import resolve_kernels, use_kernels
    from delia_ray.training.model import build_trainable
    from delia_ray.training.objective import TokenLoss, is_stochastic

    rank, world = join()
    new = token_ids(load_tokenizer(given.base.data), [TOKEN])
    trainable = build_trainable(given.base.data, new, given.config, given.dtype)
    kernels = resolve_kernels(TrainWorkers(kernels=KERNELS))
    use_kernels(trainable.model, kernels)
    stochastic = is_stochastic(trainable, given.config.objective)
    trainable.model.train()
    module = parallel(TokenLoss(trainable, given.config.objective, kernels), world)
    optimizer = torch.optim.AdamW(trainable.parameter_groups(given.config))

    def step(rows: list[Any]) -> int:
        learned = sum(row.supervised_tokens for row in rows)
        packs = packs_for_rank(rows, rank, world, PACK_TOKENS, stochastic=stochastic)
        update(module, optimizer, [lambda each=each: module(each).sum() * (world / learned) for each in packs], given)
        return learned

    return timed(given, step)


def metrics_cost(given: Inputs) -> dict[str, Any]:
    """Share of each step that the metrics take: counting, norms, and the reduction over the workers."""
    import torch.distributed as dist

    from delia_ray.training.data.packing import packs_for_rank
    from delia_ray.training.engine import TrainEngine
    from delia_ray.training.metrics.mfu import FlopCount
    from delia_ray.training.metrics.step_metrics import StepMetrics, UpdateNorm
    from delia_ray.training.model import build_trainable
    from delia_ray.training.objective import is_stochastic

    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29517", "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
    dist.init_process_group("gloo")
    spent = [0.0]
    for owner, name in (
        (StepMetrics, "add"),
        (StepMetrics, "reduce"),
        (UpdateNorm, "_copy_parameters"),
        (UpdateNorm, "_add_update"),
        (FlopCount, "__call__"),
    ):
        setattr(owner, name, _added_up(getattr(owner, name), spent))
    new = token_ids(load_tokenizer(given.base.data), [TOKEN])
    trainable = build_trainable(given.base.data, new, given.config, given.dtype)
    stochastic = is_stochastic(trainable, given.config.objective)
    engine = TrainEngine(trainable, given.config, TrainWorkers(), given.dtype)
    trainable.model.train()
    shares: list[float] = []

    def step(rows: list[Any]) -> int:
        spent[0], began = 0.0, time.perf_counter()
        learned = sum(row.supervised_tokens for row in rows)
        engine.step(packs_for_rank(rows, 0, 1, PACK_TOKENS, stochastic=stochastic), learned)
        shares.append(spent[0] / (time.perf_counter() - began))
        return learned

    return timed(given, step) | {"shares": shares[WARM_STEPS:]}


def _added_up(function: Callable[..., Any], spent: list[float]) -> Callable[..., Any]:
    def added(*args: Any, **kwargs: Any) -> Any:
        began = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            spent[0] += time.perf_counter() - began

    return added


ARMS: dict[str, Callable[[Inputs], dict[str, Any]]] = {
    "ours": ours,
    "ours_2": lambda given: ours(given, workers=2),
    "bare": bare,
    "plain": plain,
    "accelerate": accelerate,
    "trl_autocast": lambda given: trl(given, autocast=True),
    "trl_pure": trl,
    "metrics_cost": metrics_cost,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("arm", choices=ARMS)
    parser.add_argument("--full", action="store_true", help="train every weight instead of an adapter")
    parser.add_argument("--rows", type=int, default=ROWS, help="rows a step")
    parser.add_argument("--precision", choices=PRECISIONS, default=PRECISIONS[0], help="auto is the faster one of the others")
    args = parser.parse_args()
    found = ARMS[args.arm](demo(full=args.full, rows=args.rows, precision=args.precision))
    if os.environ.get("RANK", "0") == "0":
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
