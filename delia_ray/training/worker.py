"""What each training worker does, start to end."""

import json
import os
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
from ray import train

from delia_ray.errors import UserError
from delia_ray.models import load_tokenizer, resolve_dtype
from delia_ray.progress import Tally
from delia_ray.records import keyed_int
from delia_ray.training.batches import StepRows
from delia_ray.training.config import FinetuneConfig
from delia_ray.training.engine import StepResult, TrainEngine
from delia_ray.training.model import build_trainable, save_trained
from delia_ray.training.packing import Pack, pack, split_by_tokens
from delia_ray.training.tokens import TokenisedRow, tokenise

REFUSED = "refused.txt"


@dataclass(frozen=True)
class Work:
    """Everything a worker is told."""

    config: FinetuneConfig
    steps: int
    start: Path
    mixed: Path
    new_token_ids: tuple[int, ...]
    inflight: Path
    """Folder on storage that all nodes share; receives ``metrics.jsonl`` and ``trained/``."""
    micro_batch_tokens: int
    zero_stage: int
    tally: Tally


def run_worker(work: Work) -> None:
    """Train for ``work.steps`` steps, going on from the newest checkpoint if there is one.

    What the user can fix is left in ``refused.txt`` instead of raised, since Ray would start the workers again.
    """
    try:
        _train(work, read_rows(work))
    except UserError as error:
        (work.inflight / REFUSED).write_text(str(error))


def _train(work: Work, rows: Sequence[tuple[str, TokenisedRow]]) -> None:
    context = train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    # Ray gives a worker as many threads as the CPUs it reserves, which are often only a claim; share what there is.
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // context.get_local_world_size()))
    dtype = resolve_dtype(work.config.precision)
    trainable = build_trainable(work.start, work.new_token_ids, work.config, dtype)
    engine = TrainEngine(trainable, work.config, work.zero_stage, bf16=dtype == torch.bfloat16)
    step_rows = StepRows([identifier for identifier, _ in rows], work.config.batch_rows, work.config.seed)
    done = _resume(engine, work)
    trainable.model.train()
    for step in range(done, work.steps):
        began = time.monotonic()
        torch.manual_seed(
            keyed_int(work.config.seed, "dropout", f"{step}/{rank}")
        )  # so that dropout after a resume is what it would have been
        chosen = [rows[index][1] for index in step_rows(step)]
        learnt = sum(sum(row.learnt[1:]) for row in chosen)
        result = engine.step(share(chosen, rank, world, work.micro_batch_tokens), learnt)
        if rank == 0:
            tokens = sum(len(row.ids) for row in chosen)
            _log(work, step + 1, result, tokens, time.monotonic() - began)
        if (step + 1) % work.config.checkpoint_every == 0 and step + 1 < work.steps:
            _checkpoint(engine, step + 1, result)
    parameters = [parameter for group in trainable.parameter_groups(work.config) for parameter in group["params"]]
    with engine.gathered(parameters):
        if rank == 0:
            save_trained(trainable, work.inflight / "trained")
    train.report({"step": work.steps})


def read_rows(work: Work) -> list[tuple[str, TokenisedRow]]:
    """Id and tokens of every row of the mixture, in its order."""
    tokenizer = load_tokenizer(work.start)
    table = pq.read_table(work.mixed).sort_by("order_key")
    return [(row["example_id"], tokenise(tokenizer, row, work.config.max_row_tokens)) for row in table.to_pylist()]


def share(rows: Sequence[TokenisedRow], rank: int, world: int, max_tokens: int) -> list[Pack]:
    """This worker's packs of a step; every worker has as many, so that their collectives meet."""
    shares = [split_by_tokens(rows[worker::world], max_tokens) for worker in range(world)]
    packs = [pack(members) for members in shares[rank]]
    filler = pack([TokenisedRow(rows[0].ids[:1], [False], rows[0].group)])
    return packs + [filler] * (max(map(len, shares)) - len(packs))


def _log(work: Work, step: int, result: StepResult, tokens: int, seconds: float) -> None:
    line = {
        "step": step,
        "loss": result.loss,
        "task_loss": result.group_losses["task"],
        "diverse_loss": result.group_losses["diverse"],
        "learning_rate": result.learning_rate,
        "grad_norm": result.gradient_norm,
        "tokens": tokens,
        "learnt_tokens": result.learnt_tokens,
        "tokens_per_second": round(tokens / seconds, 1),
    }
    with (work.inflight / "metrics.jsonl").open("a") as stream:
        stream.write(json.dumps(line) + "\n")
    work.tally.add(rows=1, tokens=tokens)


def _checkpoint(engine: TrainEngine, step: int, result: StepResult) -> None:
    folder = tempfile.mkdtemp()
    engine.save(Path(folder), step)
    train.report(
        {"step": step, "loss": result.loss}, checkpoint=train.Checkpoint.from_directory(folder), delete_local_checkpoint_after_upload=True
    )


def _resume(engine: TrainEngine, work: Work) -> int:
    checkpoint = train.get_checkpoint()
    done = 0
    if checkpoint is not None:
        with checkpoint.as_directory() as folder:
            done = engine.load(Path(folder))
    if train.get_context().get_world_rank() == 0:
        _forget_after(work.inflight, done)
        work.tally.add(rows=done)
    return done


def _forget_after(inflight: Path, done: int) -> None:
    """Drop what an interrupted attempt logged beyond the checkpoint it left."""
    shutil.rmtree(inflight / "trained", ignore_errors=True)
    metrics = inflight / "metrics.jsonl"
    lines = metrics.read_text().splitlines() if metrics.exists() else []
    metrics.write_text("".join(line + "\n" for line in lines if line.endswith("}") and json.loads(line)["step"] <= done))


def summary(lines: Sequence[dict[str, Any]]) -> dict[str, int | float]:
    """Counts of a finished run from its metrics: steps and tokens, and the median speed."""
    speeds = sorted(line["tokens_per_second"] for line in lines)
    return {"steps": len(lines), "tokens": sum(line["tokens"] for line in lines), "tokens_per_second": speeds[len(speeds) // 2]}
