"""A trained model that is saved and merged equals the model that was trained."""

from pathlib import Path

import numpy as np
import pytest
import torch

from delia_ray.core.artifacts import Artifact
from delia_ray.core.errors import UserError
from delia_ray.placement import Kernels
from delia_ray.training.config import FinetuneConfig, Full, Lora, Parameters, Sft, TokenOnly
from delia_ray.training.data.packing import Pack, pack
from delia_ray.training.data.tokens import TokenizedRow
from delia_ray.training.kernels.select import use_kernels
from delia_ray.training.model import Trainable, build_trainable, merge_trained, save_trained
from delia_ray.training.objective import TokenLoss

TOKEN = 7


def config(parameters: Parameters) -> FinetuneConfig:
    return FinetuneConfig(parameters=parameters, learning_rate=1e-2, precision="float32")


def rows() -> Pack:
    """Pack three rows that hold the token in the prompt and in the answer."""
    numbers = np.random.default_rng(0)
    ids = [[TOKEN, *numbers.integers(10, 4000, 9).tolist(), TOKEN] for _ in range(3)]
    return pack([TokenizedRow(row, [0] * 4 + [1] * 7, "task") for row in ids])


@pytest.mark.parametrize(
    "parameters",
    [
        Lora(rank=4, dropout=0.0),
        Lora(rank=4, dropout=0.0, targets=("q_proj", "down_proj")),
        Lora(rank=4, dropout=0.0, variant="rslora"),
        Lora(rank=4, dropout=0.0, variant="dora"),
        Lora(rank=4, dropout=0.0, targets=("q_proj", "embed_tokens")),
        Lora(rank=4, dropout=0.0, targets=("q_proj", "embed_tokens", "lm_head")),
        Full(kind="full"),
        TokenOnly(kind="token_only"),
    ],
    ids=str,
)
@pytest.mark.parametrize("tied", [False, True])
def test_a_merged_model_equals_the_trained_one(
    tiny_models: dict[str, Artifact], tied_model: Artifact, tmp_path: Path, parameters: Parameters, tied: bool
):
    base = (tied_model if tied else tiny_models["one"]).data
    if tied and isinstance(parameters, Lora) and "embed_tokens" in parameters.targets:
        with pytest.raises(UserError, match=r"finetune\.parameters\.targets: `embed_tokens` is tied to the output head"):
            build_trainable(base, [TOKEN], config(parameters), torch.float32)
        return
    trainable = build_trainable(base, [TOKEN], config(parameters), torch.float32)
    loss, optimizer = TokenLoss(trainable, Sft()), torch.optim.AdamW(trainable.parameter_groups(config(parameters)))
    before = loss(rows()).detach()
    for _ in range(3):
        optimizer.zero_grad()
        loss(rows()).mean().backward()
        optimizer.step()
    save_trained(trainable, tmp_path / "trained")
    merged = Trainable(merge_trained(base, tmp_path / "trained", [TOKEN], torch.float32), None, "full")
    after = loss(rows()).detach()
    assert after.mean() < before.mean() - 0.01
    torch.testing.assert_close(TokenLoss(merged, Sft())(rows()).detach(), after, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        (Lora(targets=("q_prjo",)), r"finetune\.parameters\.targets: .*q_prjo.*; the model has down_proj, .*q_proj"),
        (
            Lora(load_in_4bit=True),
            r"finetune\.parameters\.load_in_4bit: 4-bit weights need a GPU, .* or finetune\.parameters\.load_in_4bit=false",
        ),
    ],
    ids=str,
)
def test_what_cannot_be_trained_here_is_refused(
    tiny_models: dict[str, Artifact], monkeypatch: pytest.MonkeyPatch, parameters: Parameters, message: str
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match=message):
        build_trainable(tiny_models["one"].data, [TOKEN], config(parameters), torch.float32)


def test_missing_liger_kernels_are_named(tiny_models: dict[str, Artifact], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "liger_kernel.transformers", None)
    trainable = build_trainable(tiny_models["one"].data, [TOKEN], config(Lora()), torch.float32)
    with pytest.raises(UserError, match=r"placement\.finetune\.kernels\.layers: liger needs `pip install liger-kernel`"):
        use_kernels(trainable.model, Kernels(layers="liger"))
