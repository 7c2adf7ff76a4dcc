"""Every model family can be loaded in parts by ZeRO-3, keeps its rows apart in a pack, and is written by shards."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from family_table import FAMILIES, TOKEN, Family
from process_groups import single_process_group
from trainings import PARAMETERS, build_rows

from delia_ray.models import load_model, load_tokenizer, token_ids
from delia_ray.placement import TrainWorkers
from delia_ray.training.config import FinetuneConfig, Lora, Parameters, Sft
from delia_ray.training.data.packing import pack
from delia_ray.training.deepspeed_settings import build_deepspeed_config
from delia_ray.training.model import Trainable, build_trainable
from delia_ray.training.objective import TokenLoss, merged_token_losses
from delia_ray.training.zero3 import gather_layer_by_layer, save_shards
from delia_ray.upstream.deepspeed_zero import is_partitioned

SHARD_BYTES = 100_000


@pytest.fixture(scope="module", autouse=True)
def process_group() -> Iterator[None]:
    with single_process_group():
        yield


def build(base: Path, parameters: Parameters) -> Trainable:
    config = FinetuneConfig(parameters=parameters, precision="float32")
    zero3 = build_deepspeed_config(config, TrainWorkers(zero_stage=3), torch.float32)
    return build_trainable(base, token_ids(load_tokenizer(base), [TOKEN]), config, torch.float32, zero3)


@pytest.mark.parametrize("kind", ["full", "lora"])
def test_a_model_in_parts_has_the_losses_of_the_whole_one(family: Family, extended: dict[str, Path], kind: str):
    assert_losses_are_those_of_the_whole_model(family, extended[family.name], PARAMETERS[kind])


def test_an_adapter_that_reads_the_weights_finds_them(extended: dict[str, Path]):
    llama = next(family for family in FAMILIES if family.name == "llama")
    assert_losses_are_those_of_the_whole_model(llama, extended["llama"], Lora(rank=4, dropout=0.0, variant="dora"))


def assert_losses_are_those_of_the_whole_model(family: Family, base: Path, parameters: Parameters) -> None:
    rows, trainable = build_rows(base), build(base, parameters)
    assert any(is_partitioned(weight) and not weight.numel() for weight in trainable.model.parameters())
    loss = TokenLoss(trainable, Sft())
    assert loss.packing_mode == family.packing_mode
    with gather_layer_by_layer(loss), torch.no_grad():
        losses = loss(pack(rows)).tolist()
    torch.testing.assert_close(losses, merged_token_losses(load_model(base, torch.float32), rows), rtol=1e-4, atol=1e-4)


def test_what_is_written_by_shards_is_loaded_as_the_same_model(family: Family, extended: dict[str, Path], tmp_path: Path):
    trainable = build(extended[family.name], PARAMETERS["full"])
    files = save_shards(trainable.model, tmp_path, SHARD_BYTES)
    assert {file.name for file in tmp_path.iterdir()} == {file.name for file in files}
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    before = load_model(extended[family.name], torch.float32).state_dict()
    after = load_model(tmp_path, torch.float32).state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
