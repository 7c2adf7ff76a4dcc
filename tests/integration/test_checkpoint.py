"""Checkpoints of a running training: what is loaded equals what was saved, and a broken one is named and kept."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from deepspeed.accelerator import get_accelerator
from safetensors.torch import load_file, save_file
from torch.utils.flop_counter import FlopCounterMode

from delia_ray.core.artifacts import Artifact
from delia_ray.core.errors import UserError
from delia_ray.placement import TrainWorkers
from delia_ray.training.checkpoint.state import load_state, save_state
from delia_ray.training.config import FinetuneConfig, Kl, Lora, Neftune, Objective
from delia_ray.training.data.packing import Pack, pack, shared_prefix
from delia_ray.training.data.tokens import TokenizedRow
from delia_ray.training.engine import TrainEngine
from delia_ray.training.metrics.mfu import FlopCount
from delia_ray.training.model import Trainable, build_trainable
from delia_ray.training.objective import TokenLoss

CONFIG = FinetuneConfig(parameters=Lora(rank=4, dropout=0.0), learning_rate=1e-3, warmup_steps=2, precision="float32")
TOKEN = 7
pytestmark = pytest.mark.usefixtures("process_group")


@pytest.fixture
def trainable(tiny_models: dict[str, Artifact]) -> Trainable:
    return build_trainable(tiny_models["one"].data, [TOKEN], CONFIG, torch.float32)


def rows(count: int = 3) -> list[TokenizedRow]:
    numbers = np.random.default_rng(0)
    lengths = [int(n) for n in numbers.integers(6, 20, count)]
    groups = ["task" if n % 2 == 0 else "diverse" for n in range(count)]
    ids = [[TOKEN, *numbers.integers(10, 4000, length).tolist()] for length in lengths]
    return [TokenizedRow(row, [0] * 3 + [1] * (len(row) - 3), group) for row, group in zip(ids, groups, strict=True)]


def engine(trainable: Trainable, stage: int = 2, offload: str = "none") -> TrainEngine:
    workers = TrainWorkers(zero_stage=stage, offload=offload)  # pyright: ignore[reportArgumentType]
    return TrainEngine(trainable, CONFIG, workers, torch.float32)


def step(trained: TrainEngine, packs: list[Pack]) -> float:
    return trained.step(packs, sum(len(each.targets_S) for each in packs)).loss


@pytest.fixture
def checkpoints(tiny_models: dict[str, Artifact], tmp_path: Path) -> Path:
    """Two checkpoints of a run, after one step and after two."""
    trained = engine(build_trainable(tiny_models["one"].data, [TOKEN], CONFIG, torch.float32))
    for number in (1, 2):
        step(trained, [pack(rows())])
        folder = tmp_path / "train" / f"checkpoint_{number}"
        folder.mkdir(parents=True)
        save_state(trained, folder, number)
    return tmp_path / "train"


@pytest.mark.parametrize(("stage", "offload"), [(0, "none"), (1, "none"), (2, "none"), (3, "none"), (2, "cpu"), (3, "cpu")])
def test_training_resumed_from_a_checkpoint_equals_uninterrupted_training(
    checkpoints: Path, tiny_models: dict[str, Artifact], trainable: Trainable, stage: int, offload: str
):
    uninterrupted, other = engine(trainable), build_trainable(tiny_models["one"].data, [TOKEN], CONFIG, torch.float32)
    losses = [step(uninterrupted, [pack(rows())]) for _ in range(6)]
    resumed = engine(other, stage, offload)
    assert load_state(resumed, checkpoints / "checkpoint_1", pack(rows(1))) == 1
    assert [step(resumed, [pack(rows())]) for _ in range(5)] == pytest.approx(losses[1:], abs=1e-6)


def _cut(folder: Path) -> None:
    file = next(folder.glob("*.safetensors"))
    file.write_bytes(file.read_bytes()[:-100])


def _reshape(folder: Path) -> None:
    file = next(folder.glob("*.safetensors"))
    tensors = load_file(file)
    name = next(name for name in tensors if name.endswith("exp_avg"))
    save_file({**tensors, name: torch.zeros(3, 3)}, file)


def _half_a_state(folder: Path) -> None:
    (folder / "state.json").write_text('{"step": 2, "sha')


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_cut, "missing or cut short"),
        (_half_a_state, "state.json is missing or cut short"),
        (_reshape, r"exp_avg of .* has shape \(3, 3\), and \(\d+, \d+\) is expected"),
    ],
)
def test_a_broken_checkpoint_is_named_and_the_one_before_it_still_works(
    checkpoints: Path, tiny_models: dict[str, Artifact], spoil: object, message: str
):
    spoil(checkpoints / "checkpoint_2")  # pyright: ignore[reportCallIssue]
    fresh = engine(build_trainable(tiny_models["one"].data, [TOKEN], CONFIG, torch.float32))
    with pytest.raises(UserError, match=message) as refused:
        load_state(fresh, checkpoints / "checkpoint_2", pack(rows(1)))
    assert f"remove {checkpoints / 'checkpoint_2'} to go on from the checkpoint before it" in str(refused.value)
    assert load_state(fresh, checkpoints / "checkpoint_1", pack(rows(1))) == 1


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"step_per_print": 5}, "DeepSpeed knows no step_per_print; correct or remove it"),
        ({"steps_per_print": 5, "flops_profiler": {"enabled": False}}, None),
    ],
)
def test_what_deepspeed_does_not_understand_is_named(trainable: Trainable, overrides: dict[str, Any], message: str | None):
    workers = TrainWorkers(deepspeed=overrides)
    if message is None:
        TrainEngine(trainable, CONFIG, workers, torch.float32)
        return
    with pytest.raises(UserError, match=rf"placement\.finetune\.deepspeed: .*{message}"):
        TrainEngine(trainable, CONFIG, workers, torch.float32)


def test_float16_is_refused_where_it_cannot_be_trained_in(trainable: Trainable, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(get_accelerator(), "is_fp16_supported", lambda: False)
    with pytest.raises(UserError, match=r"finetune\.precision: float16 cannot be trained in .*; use bfloat16, float32 or auto"):
        TrainEngine(trainable, CONFIG, TrainWorkers(), torch.float16)


def test_a_checkpoint_holds_no_pickle(checkpoints: Path):
    names = {file.suffix for file in (checkpoints / "checkpoint_1").iterdir()}
    assert names == {".safetensors", ".json"}
    assert json.loads((checkpoints / "checkpoint_1/state.json").read_text())["step"] == 1


def compute_losses(trainable: Trainable, objective: Objective, packed: Pack) -> torch.Tensor:
    return TokenLoss(trainable, objective)(packed)


def test_kl_is_zero_before_training_and_the_divergence_afterwards(trainable: Trainable):
    packed = pack(rows())
    diverse = torch.from_numpy(packed.groups_S == 1)
    loss = TokenLoss(trainable, Kl(kind="kl", beta=2.0))
    assert loss(packed)[diverse].abs().max() < 1e-6 < loss(packed)[~diverse].min()
    base = loss._compute_logits(packed).detach().log_softmax(-1)  # pyright: ignore[reportPrivateUsage]
    with torch.no_grad():
        for weight in trainable.parameter_groups(CONFIG)[0]["params"]:
            weight += 0.05 * torch.randn_like(weight)
        trainable.new_token_embeddings.input_ND += 0.1  # pyright: ignore[reportAttributeAccessIssue]
    tuned = loss._compute_logits(packed).detach().log_softmax(-1)  # pyright: ignore[reportPrivateUsage]
    by_hand = 2.0 * (base.exp() * (base - tuned)).sum(-1)
    outputs = loss(packed)
    assert by_hand[diverse].min() > 1e-4
    assert torch.allclose(outputs[diverse], by_hand[diverse], rtol=1e-4, atol=1e-6)
    targets = torch.from_numpy(packed.targets_S)
    assert torch.allclose(outputs[~diverse], -tuned.gather(1, targets[:, None])[~diverse, 0], rtol=1e-5)
    outputs.sum().backward()
    assert all(weight.grad is not None for weight in trainable.parameter_groups(CONFIG)[0]["params"])


def test_neftune_adds_noise_of_the_size_the_paper_says(trainable: Trainable):
    packed = pack(rows())
    embedded_outputs: list[torch.Tensor] = []
    table = trainable.model.get_input_embeddings()
    table.register_forward_hook(lambda module, args, embedded: embedded_outputs.append(embedded.detach().clone()))
    loss = TokenLoss(trainable, Neftune(kind="neftune", alpha=5.0))
    embedded_outputs.clear()  # of the test for cross-contamination
    table.register_forward_hook(lambda module, args, embedded: embedded_outputs.append(embedded.detach().clone()))
    loss(packed)
    noise = (embedded_outputs[1] - embedded_outputs[0])[0].split(list(packed.row_lengths))
    for row in noise:
        reach = 5.0 / (row.numel()) ** 0.5
        assert row.abs().max() <= reach * (1 + 1e-5)
        assert row.std().item() == pytest.approx(reach / 3**0.5, rel=0.1)


def test_rows_of_a_pack_have_the_losses_that_they_have_alone(trainable: Trainable):
    loss = TokenLoss(trainable, CONFIG.objective)
    packed, several = loss(pack(rows(4))), torch.cat([loss(pack([row])) for row in rows(4)])
    assert torch.allclose(packed, several, atol=1e-5)


def test_a_shared_prefix_changes_no_loss_and_no_gradient(trainable: Trainable, tiny_models: dict[str, Artifact]):
    other = build_trainable(tiny_models["one"].data, [TOKEN], CONFIG, torch.float32)
    prefix = np.array([TOKEN, 11, 12, 13, TOKEN, 15])
    whole = [TokenizedRow([*prefix, *row.ids], [0] * len(prefix) + [0, *[1] * (len(row.ids) - 1)], row.group) for row in rows(4)]
    assert shared_prefix(whole).tolist() == [*prefix, TOKEN]
    outputs = compute_losses(trainable, CONFIG.objective, pack([row.drop_prefix(len(prefix)) for row in whole], prefix))
    expected = compute_losses(other, CONFIG.objective, pack(whole))
    assert torch.allclose(outputs, expected, atol=1e-5)
    outputs.mean().backward()
    expected.mean().backward()
    groups = zip(trainable.parameter_groups(CONFIG), other.parameter_groups(CONFIG), strict=True)
    for mine, theirs in (pair for ours, others in groups for pair in zip(ours["params"], others["params"], strict=True)):
        assert torch.allclose(mine.grad, theirs.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("shared", [0, 6])
def test_the_flops_of_a_pack_are_those_that_torch_counts(tiny_models: dict[str, Artifact], shared: int):
    trainable = build_trainable(tiny_models["one"].data, [TOKEN], CONFIG, torch.bfloat16)
    count, loss = FlopCount(trainable.model), TokenLoss(trainable, CONFIG.objective)
    packed = pack(rows(4), np.arange(10, 10 + shared))
    with FlopCounterMode(display=False) as counted:
        loss(packed).sum().backward()
    config = trainable.model.config
    # In bfloat16 attention is two whole products; of each row's square with itself half is beyond the mask.
    squares = sum(length**2 for length in (shared, *packed.row_lengths))
    beyond_the_mask = 3 * 2 * config.hidden_size * config.num_hidden_layers * squares
    assert count(packed) == pytest.approx(counted.get_total_flops() - beyond_the_mask, rel=0.01)


def test_an_architectures_own_attention_gets_an_equivalent_mask(trainable: Trainable, tiny_models: dict[str, Artifact]):
    other = build_trainable(tiny_models["one"].data, [TOKEN], CONFIG, torch.float32)
    other.model.base_model.model._supports_sdpa = False
    masked = TokenLoss(other, CONFIG.objective)
    assert (masked.packing_mode, other.model.config._attn_implementation) == ("masked", "sdpa")
    assert torch.allclose(masked(pack(rows(4))), compute_losses(trainable, CONFIG.objective, pack(rows(4))), atol=1e-5)
