"""Ray Train runs the workers."""

import shutil
import sys
from pathlib import Path

import ray
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer
from ray.train.v2.api.exceptions import TrainingFailedError

from delia_ray.errors import UserError
from delia_ray.training.work import Work

_FULL_DISK_BYTES = 2**20


def fit(work: Work) -> None:
    """Run the workers to their end.

    Raises:
        UserError: the disk is full.
        TrainingFailedError: a worker failed more often than it may.
    """
    workers = work.workers
    resources = {"CPU": workers.num_cpus, **({"GPU": workers.num_gpus} if workers.num_gpus else {})}
    trainer = TorchTrainer(
        lambda: _loop(work),
        torch_config=TorchConfig(backend="nccl" if workers.num_gpus else "gloo"),
        scaling_config=ScalingConfig(num_workers=workers.workers, use_gpu=bool(workers.num_gpus), resources_per_worker=resources),
        run_config=RunConfig(
            storage_path=str(work.inflight / "ray"),
            failure_config=FailureConfig(max_failures=workers.max_failures),
            worker_runtime_env={} if workers.num_gpus else {"env_vars": _on_cpu()},
        ),
    )
    try:
        trainer.fit()
    except TrainingFailedError:
        free = shutil.disk_usage(work.inflight).free
        if free < _FULL_DISK_BYTES:  # whichever process found no room, and could not write down why
            raise UserError(
                f"run.root: the disk below {work.inflight} is full ({free // 1024} KiB are free); free some and run the same command "
                "again, which goes on from the newest checkpoint"
            ) from None
        raise


def _on_cpu() -> dict[str, str]:
    """Environment of a worker on a CPU, with an allocator from Ray's package and an OpenMP from vLLM's; either may be missing there.

    glibc would give each large activation back to the system and take it again page by page: a sixth of a step (docs/training_profile.md).
    """
    libraries = (Path(sys.prefix) / "lib" / "libiomp5.so", Path(ray.__file__).parent / "core" / "libjemalloc.so")
    return {
        "DS_ACCELERATOR": "cpu",
        "LD_PRELOAD": ":".join(str(library) for library in libraries if library.exists()),
        "MALLOC_CONF": "oversize_threshold:1,metadata_thp:auto,dirty_decay_ms:-1,muzzy_decay_ms:-1,thp:always",
    }


def _loop(work: Work) -> None:
    from delia_ray.training.worker import run_worker  # noqa: PLC0415  DeepSpeed and transformers take seconds, which only workers need

    run_worker(work)
