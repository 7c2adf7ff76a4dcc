"""One turn of one trainer.  python -m benchmarks.trainers ARM [--full]

Every arm trains the same parameters of the same model in the same precision on the demo's mixture, throws its first steps
away and prints how many supervised tokens it learnt from in how many seconds.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch

from benchmarks.inputs import PROVENANCE, TOKEN, WARM_STEPS, Inputs, demo
from delia_ray.models import load_model, load_tokenizer, resolve_dtype, token_ids

PACK_TOKENS = 1024
_FEWER = 0.5
"""TRL's steps are longer: a pack is filled, and eight rows do not fill it."""


def ours(given: Inputs, workers: int = 1) -> dict[str, Any]:
    """This project as it is used: Ray Train, DeepSpeed, ledger."""
    from delia_ray.placement import Cluster, TrainWorkers
    from delia_ray.runtime import connect
    from delia_ray.terminal import StageLine
    from delia_ray.training.stage import Request, finetune, read_metrics

    with tempfile.TemporaryDirectory() as folder:
        request = Request(finetune=given.config, steps=WARM_STEPS + given.steps, new_tokens=(TOKEN,))
        line, out = StageLine("bench"), Path(folder) / "checkpoint"
        place = TrainWorkers(workers=workers)
        done = finetune(request, given.start, given.mixed, place, lambda: connect(Cluster()), line, out, PROVENANCE)
        lines = read_metrics(done.data / "metrics.jsonl")[WARM_STEPS:]
    seconds = sum(line["tokens"] / line["tokens_per_second"] for line in lines)
    shares = [line["matmul_peak_share"] for line in lines]
    return {"work": sum(line["learnt_tokens"] for line in lines), "seconds": seconds, "matmul_peak_share": sorted(shares)[len(shares) // 2]}


def plain(given: Inputs) -> dict[str, Any]:
    """A torch loop around the same loss, so that the difference is what the system around the sums costs.

    Under ``torchrun`` it is DistributedDataParallel, and rows are dealt out in turn as DistributedSampler does.
    """
    import torch.distributed as dist

    from delia_ray.training.model import build_trainable
    from delia_ray.training.objective import TokenLoss
    from delia_ray.training.packing import pack, split_by_tokens

    world, rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // world))
    new = token_ids(load_tokenizer(given.start.data), [TOKEN])
    trainable = build_trainable(given.start.data, new, given.config, resolve_dtype("auto"))
    trainable.model.train()
    module: Any = TokenLoss(trainable, given.config.objective)
    if world > 1:
        dist.init_process_group("gloo")
        module = torch.nn.parallel.DistributedDataParallel(module)
    optimizer = torch.optim.AdamW(trainable.parameter_groups(given.config))

    def step(rows: list[Any]) -> int:
        learnt = sum(row.learnt_tokens for row in rows)
        packs = [pack(part) for part in split_by_tokens(rows[rank::world], PACK_TOKENS)]
        for number, each in enumerate(packs):
            with module.no_sync() if world > 1 and number + 1 < len(packs) else nullcontext():
                (module(each).sum() * (world / learnt)).backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), given.config.gradient_clip)
        optimizer.step()
        optimizer.zero_grad()
        return learnt

    return _timed(given, step)


def accelerate(given: Inputs) -> dict[str, Any]:
    """The loop of accelerate's manual: padded batches, the model's own loss."""
    from accelerate import Accelerator
    from torch.nn.utils.rnn import pad_sequence

    accelerator = Accelerator(cpu=True)
    model = _with_lora(given)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    model, optimizer = accelerator.prepare(model, torch.optim.AdamW(weights, lr=given.config.learning_rate))
    model.train()

    def step(rows: list[Any]) -> int:
        labels = [torch.tensor([i if kind else -100 for i, kind in zip(row.ids, row.kinds, strict=True)]) for row in rows]
        batch = {
            "input_ids": pad_sequence([torch.tensor(row.ids) for row in rows], batch_first=True, padding_value=0),
            "attention_mask": pad_sequence([torch.ones(len(row.ids)) for row in rows], batch_first=True).long(),
            "labels": pad_sequence(labels, batch_first=True, padding_value=-100),
        }
        accelerator.backward(model(**batch).loss)
        accelerator.clip_grad_norm_(weights, given.config.gradient_clip)
        optimizer.step()
        optimizer.zero_grad()
        return sum(row.learnt_tokens for row in rows)

    return _timed(given, step)


def trl(given: Inputs, *, autocast: bool) -> dict[str, Any]:
    """TRL's trainer, packing on; with adapters in float32 under autocast, as it is by default, or in the model's precision."""
    import datasets
    from peft import LoraConfig
    from transformers import TrainerCallback
    from trl import SFTConfig, SFTTrainer

    clock: dict[str, Any] = {"supervised": 0}

    class Clock(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == WARM_STEPS:
                clock.update(supervised=0, began=time.perf_counter())
            clock["ended"] = time.perf_counter()

    class Counting(SFTTrainer):
        def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            clock["supervised"] += int((inputs["labels"][:, 1:] != -100).sum())
            return super().compute_loss(model, inputs, *args, **kwargs)

    rows = [{"prompt": row["messages"][:-1], "completion": row["messages"][-1:]} for row in given.examples()]
    lora = LoraConfig(r=16, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")
    steps = WARM_STEPS + round(given.steps * _FEWER)
    with tempfile.TemporaryDirectory() as folder:
        config = SFTConfig(
            output_dir=folder, use_cpu=True, packing=True, max_length=PACK_TOKENS, per_device_train_batch_size=1,
            max_steps=steps, learning_rate=given.config.learning_rate, bf16=autocast, fp16=False,
            gradient_checkpointing=False, logging_steps=10**6, report_to="none", save_strategy="no", dataloader_pin_memory=False,
        )  # fmt: skip
        trainer = Counting(
            model=load_model(given.start.data, resolve_dtype("auto")) if autocast else _with_lora(given),
            args=config,
            train_dataset=datasets.Dataset.from_list(rows),
            processing_class=load_tokenizer(given.start.data),
            peft_config=lora if autocast else None,
            callbacks=[Clock()],
        )
        trainer.train()
    return {"work": clock["supervised"], "seconds": clock["ended"] - clock["began"]}


def ledger(given: Inputs) -> dict[str, Any]:
    """What share of each step goes into the ledger, all of it: counting, norms, its reduction over the workers."""
    import torch.distributed as dist

    from delia_ray.placement import TrainWorkers
    from delia_ray.training.engine import TrainEngine
    from delia_ray.training.flops import FlopCount
    from delia_ray.training.ledger import Ledger, UpdateNorm
    from delia_ray.training.model import build_trainable
    from delia_ray.training.worker import share

    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29517", "RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
    dist.init_process_group("gloo")
    spent = [0.0]
    for owner, name in ((Ledger, "add"), (Ledger, "close"), (UpdateNorm, "_remember"), (UpdateNorm, "_compare"), (FlopCount, "__call__")):
        setattr(owner, name, _added_up(getattr(owner, name), spent))
    new = token_ids(load_tokenizer(given.start.data), [TOKEN])
    trainable = build_trainable(given.start.data, new, given.config, resolve_dtype("auto"))
    engine = TrainEngine(trainable, given.config, TrainWorkers(), resolve_dtype("auto"))
    trainable.model.train()
    shares: list[float] = []

    def step(rows: list[Any]) -> int:
        spent[0], began = 0.0, time.perf_counter()
        learnt = sum(row.learnt_tokens for row in rows)
        engine.step(share(rows, 0, 1, PACK_TOKENS), learnt)
        shares.append(spent[0] / (time.perf_counter() - began))
        return learnt

    return _timed(given, step) | {"shares": shares[WARM_STEPS:]}


def _added_up(function: Callable[..., Any], spent: list[float]) -> Callable[..., Any]:
    def timed(*args: Any, **kwargs: Any) -> Any:
        began = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            spent[0] += time.perf_counter() - began

    return timed


def _with_lora(given: Inputs) -> Any:
    """The start model with an adapter in its own precision."""
    from peft import LoraConfig, get_peft_model

    lora = LoraConfig(r=16, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")
    return get_peft_model(load_model(given.start.data, resolve_dtype("auto")), lora, autocast_adapter_dtype=False)


def _timed(given: Inputs, step: Callable[[list[Any]], int]) -> dict[str, Any]:
    batches = given.batches()
    for rows in batches[:WARM_STEPS]:
        step(rows)
    began = time.perf_counter()
    learnt = sum(step(rows) for rows in batches[WARM_STEPS:])
    return {"work": learnt, "seconds": time.perf_counter() - began}


ARMS: dict[str, Callable[[Inputs], dict[str, Any]]] = {
    "ours": ours,
    "ours_2": lambda given: ours(given, workers=2),
    "plain": plain,
    "accelerate": accelerate,
    "trl_autocast": lambda given: trl(given, autocast=True),
    "trl_pure": lambda given: trl(given, autocast=False),
    "ledger": ledger,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("arm", choices=ARMS)
    parser.add_argument("--full", action="store_true", help="train every weight instead of an adapter")
    args = parser.parse_args()
    found = ARMS[args.arm](demo(full=args.full))
    if os.environ.get("RANK", "0") == "0":
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
