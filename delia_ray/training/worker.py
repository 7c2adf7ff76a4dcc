"""What each training worker does, start to end."""

import os
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import torch
import torch.distributed as dist
from ray import train

from delia_ray.errors import UserError
from delia_ray.models import resolve_dtype
from delia_ray.placement import TrainWorkers
from delia_ray.records import keyed_int
from delia_ray.training.batches import StepRows
from delia_ray.training.corpus import Corpus
from delia_ray.training.engine import TrainEngine
from delia_ray.training.flight import Flight
from delia_ray.training.flops import MatmulPeak
from delia_ray.training.kernels import use_kernels
from delia_ray.training.model import Trainable, build_trainable, save_trained
from delia_ray.training.objective import draws_noise
from delia_ray.training.packing import NO_PREFIX, Pack, deal_out, pack, shared_prefix, split_by_tokens
from delia_ray.training.tokens import TokenisedRow
from delia_ray.training.work import REFUSED, STOP, Work


def run_worker(work: Work) -> None:
    """Train for ``work.steps`` steps, going on from the newest checkpoint if there is one.

    What the user can fix is left in ``refused.txt`` instead of raised, since Ray would start the workers again.
    """
    try:
        _train(work)
    except UserError as error:
        (work.inflight / REFUSED).write_text(str(error))


def _train(work: Work) -> None:
    context = train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    # Ray gives a worker as many threads as the CPUs it reserves, which are often only a claim; share what there is.
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // context.get_local_world_size()))
    dtype = resolve_dtype(work.config.precision)
    trainable = _prepared(build_trainable(work.start, work.new_token_ids, work.config, dtype), work.workers)
    engine = TrainEngine(trainable, work.config, work.workers, dtype)
    corpus = Corpus(work.corpus)
    step_rows = StepRows(corpus.groups, corpus.example_ids, work.config.batch_rows, work.config.seed, work.config.order)
    alone = _any_worker(engine.separation == "single")
    tokens, noisy = 0 if alone else work.workers.micro_batch_tokens, alone or draws_noise(trainable, work.config.objective)
    trainable.model.train()
    with closing(Flight(work.inflight, work.workers.trackers, MatmulPeak(dtype, engine.device))) as flight:
        for step in range(flight.resume(engine, _filler(corpus)), work.steps):
            # Seeded by step, so that dropout after a resume is what it would have been.
            torch.manual_seed(keyed_int(work.config.seed, "dropout", f"{step}/{rank}"))
            rows = [corpus[index] for index in step_rows(step)]
            packs = share(rows, rank, world, tokens, noisy=noisy)
            result = engine.step(packs, sum(row.learnt_tokens for row in rows))
            flight.land(step + 1, rows, result, lambda step=step: step_rows.ids(step))
            if _must_stop(work.inflight):
                flight.checkpoint(engine)
                return
            if (step + 1) % work.config.checkpoint_every == 0 and step + 1 < work.steps:
                flight.checkpoint(engine)
    with engine.gathered(list(engine.named.values())):
        if rank == 0:
            save_trained(trainable, work.inflight / "trained")


def _prepared(trainable: Trainable, workers: TrainWorkers) -> Trainable:
    """``trainable`` with what the placement says of memory and kernels; neither changes what is learnt."""
    if workers.recompute == "layers":
        trainable.model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    use_kernels(trainable.model, workers.kernels)
    return trainable


def _filler(corpus: Corpus) -> Pack:
    """A pack that teaches nothing."""
    row = corpus[0]
    return pack([TokenisedRow(row.ids[:2], (0, 1), row.group)])


def _must_stop(inflight: Path) -> bool:
    """Whether the driver was asked to stop, or a node is about to be taken away: all workers agree, since all must write."""
    return _any_worker((inflight / STOP).exists() or train.get_preemption_info() is not None)


def _any_worker(mine: bool) -> bool:
    """Whether it holds for any worker."""
    votes = torch.tensor([float(mine)])
    if dist.get_backend() == "nccl":
        votes = votes.cuda()
    dist.all_reduce(votes)
    return bool(votes.item())


def share(rows: Sequence[TokenisedRow], rank: int, world: int, max_tokens: int, *, noisy: bool) -> list[Pack]:
    """This worker's packs of a step; every worker has as many, so that their collectives meet.

    Args:
        max_tokens: of a pack; 0 gives each row one of its own.
        noisy: each token draws noise of its own, so that no two rows may share their beginning.
    """
    prefix_P = NO_PREFIX if noisy else shared_prefix(rows)
    own = [row.after(len(prefix_P)) for row in rows]
    shares = [split_by_tokens(part, max_tokens - len(prefix_P)) for part in deal_out(own, world)]
    packs = [pack(members, prefix_P) for members in shares[rank]]
    filler = pack([TokenisedRow(rows[0].ids[:1], (0,), rows[0].group)])
    return packs + [filler] * (max(map(len, shares)) - len(packs))
