"""What a user would otherwise train with. Each works on the demo's mixture, and says how many learned tokens took how many seconds."""

import tempfile
import time
from typing import Any

import torch

from benchmarks.inputs import WARM_STEPS, Inputs
from benchmarks.loops import join, parallel, timed, update
from delia_ray.models import load_model, load_tokenizer

_PACK_TOKENS = 1024
"""Their attention grows with the square of a pack: twice as many tokens made them slower."""


def plain(given: Inputs) -> dict[str, Any]:
    """A torch loop as one would write it with transformers and PEFT alone, and nothing of ours.

    Rows stand end to end with positions that start again, from which transformers makes their mask; the head runs at learned
    tokens only. Under ``torchrun`` it is DistributedDataParallel, and rows are dealt out in turn as DistributedSampler does.
    """
    rank, world = join()
    model = with_lora(given)
    model.train()
    module = parallel(model, world)
    optimizer = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], lr=given.config.learning_rate)

    def cost(rows: list[Any]) -> torch.Tensor:
        ids_T = torch.tensor([token for row in rows for token in row.ids])
        positions_T = torch.tensor([place for row in rows for place in range(len(row.ids))])
        supervised_T = torch.tensor([place > 0 and bool(kind) for row in rows for place, kind in enumerate(row.kinds)])
        predicts_S = supervised_T.nonzero().flatten() - 1
        output = module(input_ids=ids_T[None], position_ids=positions_T[None], logits_to_keep=predicts_S, use_cache=False)
        return torch.nn.functional.cross_entropy(output.logits[0].float(), ids_T[supervised_T], reduction="sum")

    def step(rows: list[Any]) -> int:
        learned = sum(row.supervised_tokens for row in rows)
        update(module, optimizer, [lambda pack=pack: cost(pack) * (world / learned) for pack in filled(rows[rank::world])], given)
        return learned

    return timed(given, step)


def filled(rows: list[Any]) -> list[list[Any]]:
    """Rows in packs of at most so many tokens, in their order."""
    packs = [rows[:1]]
    for row in rows[1:]:
        if sum(len(each.ids) for each in packs[-1]) + len(row.ids) > _PACK_TOKENS:
            packs.append([])
        packs[-1].append(row)
    return packs


def accelerate(given: Inputs) -> dict[str, Any]:
    """The loop of accelerate's manual: padded batches, the model's own loss."""
    from accelerate import Accelerator
    from torch.nn.utils.rnn import pad_sequence

    accelerator = Accelerator(cpu=True)
    model = with_lora(given)
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
        accelerator.clip_grad_norm_(weights, given.config.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        return sum(row.supervised_tokens for row in rows)

    return timed(given, step)


def trl(given: Inputs, *, autocast: bool = False) -> dict[str, Any]:
    """TRL's trainer, packing on.

    Args:
        autocast: adapters in float32 under autocast, as it is by default, or everything in the model's precision.
    """
    import datasets
    from peft import LoraConfig
    from transformers import TrainerCallback
    from trl import SFTTrainer  # pyright: ignore[reportMissingImports]  of requirements/bench.txt

    clock: dict[str, Any] = {"supervised": 0}

    class Clock(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step == WARM_STEPS:
                clock.update(supervised=0, began=time.perf_counter())
            clock["ended"] = time.perf_counter()

    class Counting(SFTTrainer):  # pyright: ignore[reportUntypedBaseClass]
        def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            clock["supervised"] += int((inputs["labels"][:, 1:] != -100).sum())
            return super().compute_loss(model, inputs, *args, **kwargs)

    rows = [{"prompt": row["messages"][:-1], "completion": row["messages"][-1:]} for row in given.examples()]
    lora = LoraConfig(r=16, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")
    with tempfile.TemporaryDirectory() as folder:
        trainer = Counting(
            model=load_model(given.base.data, given.dtype) if autocast else with_lora(given),
            args=_sft_config(folder, given, autocast),
            train_dataset=datasets.Dataset.from_list(rows),
            processing_class=load_tokenizer(given.base.data),
            peft_config=lora if autocast else None,
            callbacks=[Clock()],
        )
        trainer.train()
    return {"work": clock["supervised"], "seconds": clock["ended"] - clock["began"]}


def _sft_config(folder: str, given: Inputs, autocast: bool) -> Any:
    from trl import SFTConfig  # pyright: ignore[reportMissingImports]

    return SFTConfig(
        output_dir=folder, use_cpu=True, packing=True, max_length=_PACK_TOKENS, per_device_train_batch_size=1,
        max_steps=WARM_STEPS + given.steps, learning_rate=given.config.learning_rate, bf16=autocast, fp16=False,
        gradient_checkpointing=False, logging_steps=10**6, report_to="none", save_strategy="no", dataloader_pin_memory=False,
    )  # fmt: skip


def with_lora(given: Inputs) -> Any:
    """The base model with an adapter in its own precision."""
    from peft import LoraConfig, get_peft_model

    lora = LoraConfig(r=16, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")
    return get_peft_model(load_model(given.base.data, given.dtype), lora, autocast_adapter_dtype=False)
