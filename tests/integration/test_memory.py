"""Estimates of a training worker's memory against what DeepSpeed's engine takes for a model of a hundred million parameters."""

from pathlib import Path
from typing import Any

import pytest
import torch
from memory_peaks import measure_peak
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig

from delia_ray.placement import TrainWorkers
from delia_ray.training.config import FinetuneConfig, Full, Lora
from delia_ray.training.engine import TrainEngine
from delia_ray.training.kernels.select import resolve_kernels, use_kernels
from delia_ray.training.lora import attach_lora
from delia_ray.training.memory.estimate import estimate_training
from delia_ray.training.memory.micro_batch import MicroBatch
from delia_ray.training.model import Trainable
from delia_ray.training.new_token_embeddings import NewTokenEmbeddings

FULL, LORA = FinetuneConfig(parameters=Full(kind="full")), FinetuneConfig(parameters=Lora(targets=("q_proj", "v_proj")))
pytestmark = pytest.mark.usefixtures("process_group")
BATCH = MicroBatch(1024, 256, 0.5)
BUCKET = {"zero_optimization": {"reduce_bucket_size": 20_000_000}}
"""Whole buckets of DeepSpeed's default size would be counted, of which a CPU touches little."""


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llama")
    LlamaConfig(
        hidden_size=768, intermediate_size=2048, num_hidden_layers=12, num_attention_heads=12, num_key_value_heads=4, vocab_size=32_000,
        tie_word_embeddings=True,
    ).save_pretrained(folder)  # fmt: skip
    return folder


def train_two_steps(folder: Path, config: FinetuneConfig, workers: TrainWorkers, dtype: torch.dtype, packs: int) -> TrainEngine:
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder), dtype=dtype)
    embeddings = NewTokenEmbeddings(model, [7])
    model = attach_lora(model, folder, config.parameters) if isinstance(config.parameters, Lora) else model
    if workers.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    use_kernels(model, resolve_kernels(workers))
    engine = TrainEngine(Trainable(model, embeddings, "full"), config, workers, dtype)
    model.train()
    for _ in range(2):
        engine.step([BATCH.build()] * packs, packs * len(BATCH.build().targets_S))
    return engine


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "precision", "packs", "placement"),
    [
        (FULL, "float32", 1, {"zero_stage": 0}),
        (FULL, "float32", 2, {"zero_stage": 1, "deepspeed": BUCKET}),
        (FULL, "bfloat16", 1, {"zero_stage": 0}),
        (FULL, "bfloat16", 2, {"zero_stage": 2, "deepspeed": BUCKET, "gradient_checkpointing": True}),
        (FULL, "float32", 1, {"zero_stage": 3, "deepspeed": BUCKET}),
        (LORA, "float32", 1, {"zero_stage": 1, "deepspeed": BUCKET}),
        (LORA, "bfloat16", 1, {"zero_stage": 2, "deepspeed": BUCKET}),
        (LORA, "float32", 1, {"zero_stage": 1, "deepspeed": BUCKET, "gradient_checkpointing": True}),
        (LORA, "float32", 1, {"zero_stage": 1, "deepspeed": BUCKET, "kernels": {"attention": "torch", "lora": "peft", "loss": "torch"}}),
    ],
    ids=lambda value: "" if isinstance(value, FinetuneConfig) else str(value).replace("'deepspeed': " + str(BUCKET) + ", ", ""),
)
def test_the_estimate_is_what_deepspeed_takes(
    llama: Path, tmp_path: Path, config: FinetuneConfig, precision: str, packs: int, placement: dict[str, Any]
):
    workers, dtype = TrainWorkers(**placement), getattr(torch, precision)
    estimated = estimate_training(llama, 1, config, workers, dtype, BATCH, is_only=packs == 1)
    taken = measure_peak(lambda: train_two_steps(llama, config, workers, dtype, packs), tmp_path)
    print(f"\n{precision} {placement} {packs}: {estimated.total / 2**30:.3f} GiB, taken {taken / 2**30:.3f}: {estimated.total / taken:.3f}")
    assert estimated.total == pytest.approx(taken, rel=0.15)
