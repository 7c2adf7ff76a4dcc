"""Estimates of a training worker's memory against what a training step takes, and against sums by hand."""

from pathlib import Path
from typing import Any

import pytest
import torch
from memory_peaks import measure_peak
from transformers import AutoConfig, AutoModelForCausalLM, GemmaConfig, LlamaConfig, MambaConfig, PhimoeConfig

from delia_ray.core.config import build_config
from delia_ray.placement import TrainWorkers
from delia_ray.settings import Settings
from delia_ray.training.config import FinetuneConfig, Full, Lora, Parameters
from delia_ray.training.kernels.select import resolve_kernels, use_kernels
from delia_ray.training.lora import attach_lora
from delia_ray.training.memory.estimate import TrainingMemory, estimate_training
from delia_ray.training.memory.micro_batch import MicroBatch
from delia_ray.training.model import Trainable
from delia_ray.training.new_token_embeddings import NewTokenEmbeddings
from delia_ray.training.objective import TokenLoss

PAPER = Path(__file__).parents[2] / "jobs/configs/paper.yaml"
FULL, LORA = Full(kind="full"), Lora(rank=8, targets=("q_proj", "v_proj"))
GIB, MIB = 2**30, 2**20


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llama")
    LlamaConfig(
        hidden_size=256, intermediate_size=704, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2, vocab_size=8000,
        max_position_embeddings=4096,
    ).save_pretrained(folder)  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def gemma(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """gemma-7b: the defaults of its class."""
    folder = tmp_path_factory.mktemp("gemma")
    GemmaConfig().save_pretrained(folder)
    return folder


def estimate(folder: Path, parameters: Parameters, batch: MicroBatch, precision: str = "float32", **placement: Any) -> TrainingMemory:
    config, workers = FinetuneConfig(parameters=parameters), TrainWorkers(**{"zero_stage": 0, **placement})
    return estimate_training(folder, 1, config, workers, getattr(torch, precision), batch, is_only=True)


def train_two_steps(folder: Path, parameters: Parameters, batch: MicroBatch, checkpointing: bool) -> object:
    """Train as a worker at ZeRO stage 0 does in float32, without DeepSpeed; the second step has AdamW's moments."""
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder), dtype=torch.float32)
    embeddings = NewTokenEmbeddings(model, [7])
    model = attach_lora(model, folder, parameters) if isinstance(parameters, Lora) else model
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    kernels = resolve_kernels(TrainWorkers())
    use_kernels(model, kernels)
    loss = TokenLoss(Trainable(model, embeddings, "full"), FinetuneConfig().objective, kernels)
    optimizer = torch.optim.AdamW([weight for weight in loss.parameters() if weight.requires_grad], fused=True)
    model.train()
    for _ in range(2):
        loss(batch.build()).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    return loss, optimizer


SHORT, LONG = MicroBatch(512, 128, 0.5), MicroBatch(1024, 512, 0.9)


@pytest.mark.parametrize(
    ("parameters", "checkpointing", "batch"),
    [(FULL, False, SHORT), (LORA, False, LONG), (LORA, True, SHORT)],
    ids=["every weight", "adapter", "adapter, activations recomputed"],
)
def test_the_estimate_is_what_a_training_step_takes(
    llama: Path, tmp_path: Path, parameters: Parameters, checkpointing: bool, batch: MicroBatch
):
    taken = measure_peak(lambda: train_two_steps(llama, parameters, batch, checkpointing), tmp_path)
    estimated = estimate(llama, parameters, batch, gradient_checkpointing=checkpointing)
    assert estimated.total == pytest.approx(taken, rel=0.05)


def sizes(memory: TrainingMemory) -> dict[str, int]:
    return {part.name: part.size for part in memory.parts}


def on_gpu(folder: Path, lora: Lora, tokens: int, supervised: float, **placement: Any) -> TrainingMemory:
    batch = MicroBatch(tokens, 1024, supervised)
    return estimate(folder, lora, batch, "bfloat16", num_gpus=1, zero_stage=2, **placement)


def test_the_estimate_for_gemma_7b_on_a_gpu_is_the_sum_by_hand(gemma: Path):
    """Bytes that each layer keeps of a token, in bfloat16 except for the norms, which compute in float32."""
    hidden, wide, heads = 3072, 24576, 16 * 256
    norms = 2 * 4 * hidden
    dropouts = (3 * hidden + heads) * (2 + 1)  # the adapters' inputs, and masks of a byte
    attention = 4 * 2 * heads  # queries, keys, values and outputs
    mlp = 3 * 2 * wide
    lora = Lora(rank=16, targets=("q_proj", "k_proj", "v_proj", "o_proj"))
    stored = sizes(on_gpu(gemma, lora, 8192, 1e-4))
    assert stored["weights"] == pytest.approx(2 * 8.54e9, rel=0.01)
    assert stored["activations"] / 8192 == pytest.approx(28 * (norms + dropouts + attention + mlp), rel=0.03)
    recomputed = sizes(on_gpu(gemma, lora, 8192, 1e-4, gradient_checkpointing=True))
    assert recomputed["activations"] / 8192 / MIB == pytest.approx(0.57, rel=0.1), "the layers' inputs, and one layer"


def test_a_chunked_loss_takes_no_float32_logits(tmp_path: Path):
    GemmaConfig(num_hidden_layers=1).save_pretrained(tmp_path)
    batch, lora = MicroBatch(8192, 1024, 1.0), Lora(rank=16, targets=("q_proj",))
    whole, chunked = (
        sizes(estimate(tmp_path, lora, batch, "bfloat16", num_gpus=1, zero_stage=2, kernels={"loss": loss}))["logits and loss"]
        for loss in ("torch", "chunked")
    )
    logits = 8192 * 2 * 256_000
    assert whole >= 5.5 * logits, "the logits, two copies of them in float32, and a gradient in float32"
    assert 2 * logits <= chunked <= 2.5 * logits, "the logits and their gradient, and a chunk"


def test_the_settings_of_the_paper_fit_a_gpu_of_48_gb(gemma: Path):
    settings = build_config(Settings, [PAPER], [])
    workers, config = settings.placement.finetune, settings.finetune
    batch = MicroBatch(max(workers.micro_batch_tokens, config.max_seq_len), config.max_seq_len, 1.0)
    memory = estimate_training(gemma, 1, config, workers, torch.bfloat16, batch, is_only=False)
    assert memory.is_whole and memory.total <= 40 * GIB


def test_what_is_offloaded_is_not_on_the_gpu(llama: Path):
    batch = MicroBatch(512, 128, 0.5)
    here, there = (estimate(llama, FULL, batch, "bfloat16", num_gpus=1, zero_stage=2, offload=place) for place in ("none", "cpu"))
    offloaded = {part.name: part.size for part in there.parts if part.is_offloaded}
    assert sum(offloaded.values()) == pytest.approx(6 * here.parts[0].size, rel=0.001), "12 bytes of a parameter, and its weight has 2"
    assert here.total - there.total == sum(offloaded.values())


def test_more_workers_share_the_states_of_zero(llama: Path):
    batch = MicroBatch(512, 128, 0.5)
    one, four = (sizes(estimate(llama, FULL, batch, zero_stage=1, workers=workers)) for workers in (1, 4))
    assert one["AdamW's moments"] == pytest.approx(4 * four["AdamW's moments"], rel=0.01)
    assert one["weights"] == four["weights"]


def test_a_model_that_keeps_no_rows_apart_is_estimated_for_one_row(tmp_path: Path):
    MambaConfig(hidden_size=32, num_hidden_layers=2, vocab_size=100, use_mambapy=False).save_pretrained(tmp_path)
    batch = MicroBatch(256, 32, 0.5)
    assert estimate(tmp_path, FULL, batch).total == estimate(tmp_path, FULL, MicroBatch(32, 32, 0.5)).total


def test_a_model_that_does_not_run_without_data_has_an_estimate_without_activations(tmp_path: Path):
    """This mixture of experts has a kernel that torch cannot run without data in float32."""
    PhimoeConfig(
        hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1, vocab_size=100,
        num_local_experts=2,
    ).save_pretrained(tmp_path)  # fmt: skip
    memory = estimate(tmp_path, FULL, MicroBatch(64, 32, 0.5))
    assert not memory.is_whole and "weights" in sizes(memory) and "activations" not in sizes(memory)


def test_an_estimate_leaves_nothing_behind_that_a_training_step_would_trip_over(llama: Path, tmp_path: Path):
    batch = MicroBatch(300, 100, 0.5)
    estimate(llama, LORA, batch)
    train_two_steps(llama, LORA, batch, checkpointing=False)
