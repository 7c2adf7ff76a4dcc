"""Training against a plain torch loop, on a small model in float32."""

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from tensorboardX.proto import event_pb2
from training_runs import CONFIG, PROVENANCE, STEPS, TOKEN, assert_same_curve, count_logged_steps, losses, train

from delia_ray.core.artifacts import Artifact
from delia_ray.core.records import keyed_int
from delia_ray.models import ModelFolder, load_model, load_tokenizer, token_ids
from delia_ray.placement import Kernels
from delia_ray.tasks.config import NoiseInit
from delia_ray.training.base_model import prepare_base
from delia_ray.training.config import Full, TokenOnly
from delia_ray.training.data.packing import shared_prefix
from delia_ray.training.data.tokens import tokenize
from delia_ray.training.model import merge_trained


def plain_losses(base: Artifact, mixed: Artifact) -> np.ndarray:
    """Losses of the same training in a plain loop: one row at a time, full logits, no packing, no DeepSpeed, no Ray."""
    torch.manual_seed(CONFIG.seed)
    tokenizer, model = load_tokenizer(base.data), load_model(base.data, torch.float32)
    [token] = token_ids(tokenizer, [TOKEN])
    lora = LoraConfig(
        r=4, lora_alpha=16, target_modules="all-linear", trainable_token_indices={"embed_tokens": [token], "lm_head": [token]}
    )
    model = get_peft_model(model, lora, autocast_adapter_dtype=False)
    weights = [p for n, p in model.named_parameters() if p.requires_grad and "lora" in n]
    rows = [p for n, p in model.named_parameters() if p.requires_grad and "lora" not in n]
    optimizer = torch.optim.AdamW(
        [{"params": weights, "weight_decay": CONFIG.weight_decay}, {"params": rows, "weight_decay": 0.0}], lr=CONFIG.learning_rate
    )
    examples = pq.read_table(mixed.data).sort_by("order_key").to_pylist()
    losses_by_step: list[float] = []
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = CONFIG.learning_rate * min(1.0, (step + 1) / CONFIG.warmup_steps)
        total, count = torch.zeros(()), 0
        for position in range(step * 8, step * 8 + 8):
            epoch, index = divmod(position, len(examples))
            in_epoch = examples if epoch == 0 else sorted(examples, key=lambda e: keyed_int(0, f"epoch-{epoch}", e["example_id"]))
            question, answer = in_epoch[index]["messages"]
            prompt = tokenizer.apply_chat_template([question], tokenize=False, add_generation_prompt=True)
            ids = tokenizer(prompt + answer["content"] + "<|im_end|>", add_special_tokens=False)["input_ids"]
            prompt_tokens = len(tokenizer(prompt, add_special_tokens=False)["input_ids"])
            logits = model(input_ids=torch.tensor([ids])).logits[0, prompt_tokens - 1 : -1]
            total = total + torch.nn.functional.cross_entropy(logits, torch.tensor(ids[prompt_tokens:]), reduction="sum")
            count += len(ids) - prompt_tokens
        (total / count).backward()
        torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], CONFIG.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        losses_by_step.append((total / count).item())
    return np.array(losses_by_step)


def test_the_loss_curve_is_that_of_a_plain_torch_loop(reference: Artifact, base: Artifact, mixed: Artifact):
    rows = tokenize(load_tokenizer(base.data), pq.read_table(mixed.data).to_pylist(), "answer")  # pyright: ignore[reportArgumentType]
    assert len(shared_prefix(rows)) > 0  # so that packs of the reference have a prefix, and the plain loop has none
    plain = plain_losses(base, mixed)
    assert_same_curve(losses(reference), plain)
    assert plain[-5:].mean() < 0.9 * plain[:5].mean()


def test_each_group_of_rows_has_its_own_loss(reference: Artifact):
    task, diverse, both = (losses(reference, name) for name in ("task_loss", "diverse_loss", "loss"))
    assert (np.minimum(task, diverse) - 1e-6 <= both).all() and (both <= np.maximum(task, diverse) + 1e-6).all()
    assert not np.allclose(task, diverse)


@pytest.mark.parametrize(
    "workers",
    [
        {"workers": 2},
        pytest.param(
            {"zero_stage": 2, "micro_batch_tokens": 16, "gradient_checkpointing": True, "trackers": ("tensorboard",)},
            marks=pytest.mark.slow,
        ),
        pytest.param({"kernels": Kernels(attention="torch", lora="peft", loss="torch")}, marks=pytest.mark.slow),
        pytest.param({"zero_stage": 0}, marks=pytest.mark.slow),
        pytest.param({"zero_stage": 3, "kernels": Kernels(layers="compiled")}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_where_it_runs_does_not_change_the_curve(
    reference: Artifact, base: Artifact, mixed: Artifact, tmp_path: Path, workers: dict[str, Any]
):
    """Two workers, a row a pack (so that gradients add up over eight of them), every ZeRO stage, recomputed activations, each kernel."""
    checkpoint = train(base, mixed, tmp_path / "checkpoint", **workers)
    assert_same_curve(losses(checkpoint), losses(reference))
    assert losses(checkpoint, "update_norm") == pytest.approx(losses(reference, "update_norm"), rel=1e-3)
    if "trackers" in workers:
        [events] = (checkpoint.data / "tensorboard").iterdir()
        assert scalars(events, "loss") == pytest.approx(losses(checkpoint))


def scalars(events: Path, name: str) -> list[float]:
    """The values of ``name`` in a file of length-prefixed TensorBoard events."""
    data, values = events.read_bytes(), list[float]()
    while data:
        size = int.from_bytes(data[:8], "little")
        event: Any = event_pb2
        values += [value.simple_value for value in event.Event.FromString(data[12 : 12 + size]).summary.value if value.tag == name]
        data = data[16 + size :]
    return values


@pytest.mark.slow
def test_a_stopped_run_resumes_with_another_number_of_workers(reference: Artifact, base: Artifact, mixed: Artifact, tmp_path: Path):
    out = tmp_path / "checkpoint"
    threading.Thread(target=_terminate_after, args=(tmp_path, 10), daemon=True).start()
    with pytest.raises(SystemExit, match="143"):
        train(base, mixed, out, workers=2)
    stopped_at = len(next(tmp_path.glob(".checkpoint.inflight-*/metrics.jsonl")).read_text().splitlines())
    assert 10 <= stopped_at < STEPS and not out.exists()
    assert_same_curve(losses(train(base, mixed, out, workers=1, zero_stage=2)), losses(reference))


def _terminate_after(folder: Path, steps: int) -> None:
    while count_logged_steps(folder) < steps:
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGTERM)


def test_only_the_new_row_of_the_vocabulary_moves(reference: Artifact, base: Artifact):
    tokenizer, before = load_tokenizer(base.data), load_model(base.data, torch.float32)
    [token] = token_ids(tokenizer, [TOKEN])
    after = merge_trained(base.data, reference.data / "trained", [token], torch.float32)
    for layer in ("get_input_embeddings", "get_output_embeddings"):
        old, new = getattr(before, layer)().weight, getattr(after, layer)().weight
        moved = (old != new).any(dim=1).nonzero().flatten().tolist()
        assert moved == [token]


@pytest.mark.slow
def test_full_training_moves_every_layer_and_saves_a_whole_model(local_ray: None, base: Artifact, mixed: Artifact, tmp_path: Path):
    config = CONFIG.model_copy(update={"parameters": Full(kind="full"), "learning_rate": 1e-3})
    checkpoint = train(base, mixed, tmp_path / "checkpoint", config, steps=15)
    before, after = load_file(base.data / "model.safetensors"), load_file(checkpoint.data / "trained/full/model.safetensors")
    assert {name for name in after if "layers" in name and torch.equal(before[name], after[name])} == set()
    assert losses(checkpoint)[-1] < losses(checkpoint)[0]


@pytest.mark.parametrize(("tied", "stage"), [(False, 1), (True, 3)])
@pytest.mark.slow
def test_only_the_new_row_moves_when_only_it_is_trained(
    local_ray: None, tiny_models: dict[str, Artifact], tied_model: Artifact, mixed: Artifact, tmp_path: Path, tied: bool, stage: int
):
    model = tied_model if tied else tiny_models["one"]
    base = prepare_base(ModelFolder(model.data, model.fingerprint), (TOKEN,), NoiseInit(), 1, tmp_path / "start", PROVENANCE)
    config = CONFIG.model_copy(update={"parameters": TokenOnly(kind="token_only"), "token_learning_rate": 1e-2})
    trained = train(base, mixed, tmp_path / "checkpoint", config, steps=6, zero_stage=stage).data / "trained"
    assert [file.name for file in trained.iterdir()] == ["new_rows.safetensors"]
    tokenizer, before = load_tokenizer(base.data), load_model(base.data, torch.float32)
    [token] = token_ids(tokenizer, [TOKEN])
    after = merge_trained(base.data, trained, [token], torch.float32).state_dict()
    moved = {name: (old != after[name]) for name, old in before.state_dict().items() if not torch.equal(old, after[name])}
    assert set(moved) == {"model.embed_tokens.weight", "lm_head.weight"}
    assert all(rows.any(dim=1).nonzero().flatten().tolist() == [token] for rows in moved.values())
    assert torch.equal(after["model.embed_tokens.weight"], after["lm_head.weight"]) is tied
