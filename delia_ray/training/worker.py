"""The training loop of one Ray Train worker."""

import os
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
from delia_ray.models import resolve_dtype
from delia_ray.training.checkpoint.agreement import OtherWorkerError, failing_together, is_true_on_any_worker
from delia_ray.training.checkpoint.interruptions import Interruption, Interruptions
from delia_ray.training.checkpoint.manager import CheckpointManager
from delia_ray.training.data.batch_sampler import BatchSampler
from delia_ray.training.data.corpus import Corpus
from delia_ray.training.data.packing import Pack, pack, packs_for_rank
from delia_ray.training.data.tokens import TokenizedRow
from delia_ray.training.deepspeed_settings import build_deepspeed_config
from delia_ray.training.engine import TrainEngine, apply_placement
from delia_ray.training.job import STOP, USER_ERROR, CommonError, TrainJob
from delia_ray.training.metrics.log import StepLog
from delia_ray.training.metrics.mfu import PeakFlops
from delia_ray.training.model import FULL, Trainable, build_trainable, save_trained
from delia_ray.training.objective import is_stochastic
from delia_ray.training.zero3 import save_shards
from delia_ray.upstream.deepspeed_zero import gather, is_partitioned


def run_worker(job: TrainJob) -> None:
    """Train for ``job.steps`` steps, resuming from the newest checkpoint if there is one.

    A ``UserError`` is written to ``refused.txt`` by the worker that meets it. It is raised only where others may wait for that worker in a
    collective: Ray ends them then, and those that it starts again find the file and return (``launch``).
    """
    try:
        _train(job)
    except UserError as error:
        write_bytes(job.inflight / USER_ERROR, str(error).encode())
        if not isinstance(error, CommonError) and train.get_context().get_world_size() > 1:
            raise
    except OtherWorkerError:
        pass


def _train(job: TrainJob) -> None:
    config, workers = job.config, job.workers
    rank, world = dist.get_rank(), dist.get_world_size()
    with failing_together():
        fetch(job.base)
        corpus = Corpus(fetch(job.corpus))
    trainable, engine = _build_engine(job)
    sampler = BatchSampler(corpus.groups, corpus.example_ids, config.global_batch_size, config.seed, config.order)
    unpacked = is_true_on_any_worker(engine.packing_mode == "single")
    max_tokens, stochastic = 0 if unpacked else workers.micro_batch_tokens, unpacked or is_stochastic(trainable, config.objective)
    checkpoints, interruptions = CheckpointManager(job.inflight, job.trained), Interruptions(job.inflight / STOP)
    with failing_together():
        peak = PeakFlops(resolve_dtype(config.precision), engine.device)
        step_log = StepLog(job.inflight, workers.trackers, peak, rank, world, job.labels)
    with closing(step_log):
        first_step = checkpoints.restore(engine, _build_dummy_pack(corpus))
        step_log.resume(first_step)
        for step in range(first_step, job.steps):
            # Seeded by step, so that dropout after a resume is what it would have been.
            torch.manual_seed(keyed_int(config.seed, "dropout", f"{step}/{rank}"))
            rows = [corpus[index] for index in sampler(step)]
            packs = packs_for_rank(rows, rank, world, max_tokens, stochastic=stochastic)
            result = engine.step(packs, sum(row.supervised_tokens for row in rows))
            step_log.write(step + 1, rows, result, lambda step=step: sampler.get_example_ids(step))
            interruption = interruptions.ask()
            is_due = (step + 1) % config.checkpoint_every == 0 and step + 1 < job.steps
            if is_due or interruption is not Interruption.NONE:
                with failing_together():
                    step_log.flush()
                checkpoints.save(engine, step + 1)
                step_log.start_timer()
            if interruption is not Interruption.NONE:
                checkpoints.wait()
            if interruption is Interruption.STOP:
                return
    checkpoints.wait()
    save_result(trainable, job.trained)


def _build_engine(job: TrainJob) -> tuple[Trainable, TrainEngine]:
    config, workers = job.config, job.workers
    # Ray sets as many threads as the CPUs that a worker reserves, which need not exist; divide the real ones among the local workers.
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // train.get_context().get_local_world_size()))
    dtype = resolve_dtype(config.precision)
    zero3 = build_deepspeed_config(config, workers, dtype) if workers.zero_stage == 3 else None
    trainable = build_trainable(job.base, job.new_token_ids, config, dtype, zero3)
    apply_placement(trainable, workers)
    engine = TrainEngine(trainable, config, workers, dtype)
    trainable.model.train()
    return trainable, engine


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
