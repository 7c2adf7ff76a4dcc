"""Launch of the training workers with Ray Train."""

import shutil
import sys
from pathlib import Path

import ray
from ray.train import FailureConfig, RunConfig, ScalingConfig
from ray.train.torch import TorchConfig, TorchTrainer

from delia_ray.core.errors import UserError
from delia_ray.core.storage.objects import exists, locate
from delia_ray.training.job import USER_ERROR, TrainJob
from delia_ray.upstream.ray_train import TrainingFailedError

_FULL_DISK_BYTES = 2**20


def launch(job: TrainJob) -> None:
    """Run the training workers of ``job`` with Ray Train until they finish, or until one has written down what a user has to correct.

    Raises:
        UserError: a worker failed and the disk is full.
        TrainingFailedError: the workers failed more than ``workers.max_failures`` times.
    """
    workers = job.workers
    resources = {"CPU": workers.num_cpus, **({"GPU": workers.num_gpus} if workers.num_gpus else {})}
    name, store = locate(job.inflight / "ray")
    trainer = TorchTrainer(
        lambda: _run_worker(job),
        torch_config=TorchConfig(backend="nccl" if workers.num_gpus else "gloo"),
        scaling_config=ScalingConfig(num_workers=workers.workers, use_gpu=bool(workers.num_gpus), resources_per_worker=resources),
        run_config=RunConfig(
            storage_path=name,
            storage_filesystem=store,
            failure_config=FailureConfig(max_failures=workers.max_failures),
            worker_runtime_env={} if workers.num_gpus else {"env_vars": _build_cpu_env()},
        ),
    )
    try:
        trainer.fit()
    except TrainingFailedError:
        if exists(job.inflight / USER_ERROR):
            return
        free = shutil.disk_usage(job.inflight).free
        if free < _FULL_DISK_BYTES:  # the process that ran out of space could not write down why
            raise UserError(
                f"run.root: the disk below {job.inflight} is full ({free // 1024} KiB are free); free some and run the same command "
                "again, which goes on from the newest checkpoint"
            ) from None
        raise


def _build_cpu_env() -> dict[str, str]:
    """Build the environment of a CPU worker, which preloads jemalloc from Ray's package and Intel's OpenMP from vLLM's, where present.

    glibc returns each large activation to the system and requests it again page by page: a sixth of a step (docs/training_profile.md).
    """
    libraries = (Path(sys.prefix) / "lib" / "libiomp5.so", Path(ray.__file__).parent / "core" / "libjemalloc.so")
    return {
        "DS_ACCELERATOR": "cpu",
        "LD_PRELOAD": ":".join(str(library) for library in libraries if library.exists()),
        "MALLOC_CONF": "oversize_threshold:1,metadata_thp:auto,dirty_decay_ms:-1,muzzy_decay_ms:-1,thp:always",
    }


def _run_worker(job: TrainJob) -> None:
    if exists(job.inflight / USER_ERROR):  # Ray has started this worker again after an error that stays
        return
    from delia_ray.training.worker import run_worker  # noqa: PLC0415  DeepSpeed and transformers take seconds to import

    run_worker(job)
