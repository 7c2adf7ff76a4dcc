"""The training loop of one Ray Train worker."""

import os
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import torch
import torch.distributed as dist
from ray import train

from delia_ray.core.errors import UserError
from delia_ray.core.records import keyed_int
from delia_ray.core.storage.objects import write_bytes
from delia_ray.core.storage.transfer import fetch, output_folder, publish
from delia_ray.core.storage.watch import watch
from delia_ray.models import resolve_dtype
from delia_ray.training.checkpoint.agreement import OtherWorkerError, is_true_on_any_worker
from delia_ray.training.checkpoint.manager import CheckpointManager
from delia_ray.training.data.batch_sampler import BatchSampler
from delia_ray.training.data.corpus import Corpus
from delia_ray.training.data.packing import Pack, pack, packs_for_rank
from delia_ray.training.data.tokens import TokenizedRow
from delia_ray.training.deepspeed_settings import build_deepspeed_config
from delia_ray.training.engine import TrainEngine, apply_placement
from delia_ray.training.job import STOP, USER_ERROR, TrainJob
from delia_ray.training.metrics.log import StepLog
from delia_ray.training.metrics.mfu import PeakFlops
from delia_ray.training.model import FULL, Trainable, build_trainable, save_trained
from delia_ray.training.objective import is_stochastic
from delia_ray.training.zero3 import save_shards
from delia_ray.upstream.deepspeed_zero import gather, is_partitioned


def run_worker(job: TrainJob) -> None:
    """Train for ``job.steps`` steps, resuming from the newest checkpoint if there is one.

    A ``UserError`` is written to ``refused.txt`` by the worker that meets it, and not raised on any, since Ray would restart the workers.
    """
    try:
        _train(job)
    except UserError as error:
        write_bytes(job.inflight / USER_ERROR, str(error).encode())
    except OtherWorkerError:
        pass


def _train(job: TrainJob) -> None:
    context, config, workers = train.get_context(), job.config, job.workers
    rank, world = context.get_world_rank(), context.get_world_size()
    # Ray sets as many threads as the CPUs that a worker reserves, which need not exist; divide the real ones among the local workers.
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // context.get_local_world_size()))
    dtype = resolve_dtype(config.precision)
    zero3 = build_deepspeed_config(config, workers, dtype) if workers.zero_stage == 3 else None
    trainable = build_trainable(job.base, job.new_token_ids, config, dtype, zero3)
    apply_placement(trainable, workers)
    engine = TrainEngine(trainable, config, workers, dtype)
    corpus = Corpus(fetch(job.corpus))
    sampler = BatchSampler(corpus.groups, corpus.example_ids, config.global_batch_size, config.seed, config.order)
    unpacked = is_true_on_any_worker(engine.packing_mode == "single")
    max_tokens, stochastic = 0 if unpacked else workers.micro_batch_tokens, unpacked or is_stochastic(trainable, config.objective)
    trainable.model.train()
    checkpoints, asks_to_stop = CheckpointManager(job.inflight, job.trained), watch(job.inflight / STOP)
    with closing(StepLog(job.inflight, workers.trackers, PeakFlops(dtype, engine.device), rank, world, job.labels)) as step_log:
        first_step = checkpoints.restore(engine, _build_dummy_pack(corpus))
        step_log.resume(first_step)
        for step in range(first_step, job.steps):
            # Seeded by step, so that dropout after a resume is what it would have been.
            torch.manual_seed(keyed_int(config.seed, "dropout", f"{step}/{rank}"))
            rows = [corpus[index] for index in sampler(step)]
            packs = packs_for_rank(rows, rank, world, max_tokens, stochastic=stochastic)
            result = engine.step(packs, sum(row.supervised_tokens for row in rows))
            step_log.write(step + 1, rows, result, lambda step=step: sampler.get_example_ids(step))
            if _must_stop(asks_to_stop):
                step_log.flush()
                checkpoints.save(engine, step + 1)
                checkpoints.wait()
                return
            if (step + 1) % config.checkpoint_every == 0 and step + 1 < job.steps:
                step_log.flush()
                checkpoints.save(engine, step + 1)
                step_log.start_timer()
    checkpoints.wait()
    save_result(trainable, job.trained)


def save_result(trainable: Trainable, folder: Path) -> None:
    """Write what was trained: the first worker all of it, or, of a model in parts, each worker its share of the files."""
    in_shards = trainable.part == "full" and any(map(is_partitioned, trainable.model.parameters()))
    gathered = replace(trainable, part="embeddings") if in_shards else trainable
    with gather(list(gathered.saved_parameters())):
        if dist.get_rank() == 0:
            with output_folder(folder):
                save_trained(gathered, folder)
    if in_shards:
        dist.barrier()  # the first worker has emptied the folder
        for file in save_shards(trainable.model, folder / FULL):
            publish(file)


def _build_dummy_pack(corpus: Corpus) -> Pack:
    """Build a pack of two tokens, one of them supervised, to run the model on while no weight changes."""
    row = corpus[0]
    return pack([TokenizedRow(row.ids[:2], (0, 1), row.group)])


def _must_stop(asks_to_stop: Callable[[], bool]) -> bool:
    """Whether the driver asked for a stop, or a node is about to be preempted. All workers agree, since all write the checkpoint."""
    return is_true_on_any_worker(asks_to_stop() or train.get_preemption_info() is not None)
