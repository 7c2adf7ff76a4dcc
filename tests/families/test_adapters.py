"""Adapters are tried before anything is built, and put where they can be learnt and merged."""

from pathlib import Path

import pytest
from family_table import FAMILIES, Family

from delia_ray.errors import UserError
from delia_ray.training.config import Lora
from delia_ray.training.lora import check_lora, layers_left_out

LEFT_OUT = {"llama4": {"router"}, "phimoe": {"router"}, "falcon_h1": {"out_proj"}, "nemotron_h": {"out_proj"}, "mamba": {"out_proj"}}
HAS_ADAPTED_EXPERTS = {"mixtral"}


def test_all_linear_leaves_out_what_can_carry_no_adapter_and_nothing_else(family: Family, zoo: dict[str, Path]):
    lora = Lora(dropout=0.0)
    check_lora(zoo[family.name], lora)
    left_out = {name.rpartition(".")[2] for name in layers_left_out(zoo[family.name], lora)}
    assert left_out == LEFT_OUT.get(family.name, set())


def test_the_adapter_of_the_default_settings_is_taken_or_refused_with_a_way_out(family: Family, zoo: dict[str, Path]):
    if family.name in HAS_ADAPTED_EXPERTS:
        with pytest.raises(UserError, match=r"^finetune\.parameters: .* set finetune\.parameters\.dropout=0$"):
            check_lora(zoo[family.name], Lora())
    else:
        check_lora(zoo[family.name], Lora())


@pytest.mark.parametrize(
    ("name", "lora", "said"),
    [
        (
            "phimoe",
            Lora(targets=("q_proj", "router")),
            r"targets: router of phimoe is no plain linear layer, .* name others, or all-linear",
        ),
        ("mamba", Lora(targets=("out_proj",)), r"targets: \['out_proj'\] \(.*incompatible.*\); the model has dt_proj, in_proj"),
        ("llama", Lora(targets=("q_proj", "v_prjo")), "targets: no layer of llama is called v_prjo; the model has down_proj, .*q_proj"),
        ("llama_tied", Lora(targets=("q_proj", "embed_tokens")), r"targets: q_proj, embed_tokens has a table that the model both reads"),
        ("mixtral", Lora(variant="dora"), r"set finetune\.parameters\.dropout=0 and finetune\.parameters\.variant=plain"),
    ],
    ids=["a router", "a kernel's weights", "a name that is none", "a tied table", "two settings at once"],
)
def test_an_adapter_that_cannot_be_trained_is_refused_in_a_line(zoo: dict[str, Path], name: str, lora: Lora, said: str):
    with pytest.raises(UserError, match=rf"^finetune\.parameters.*{said}") as refused:
        check_lora(zoo[name], lora)
    assert "\n" not in str(refused.value)


def test_the_names_of_the_families_are_those_of_the_zoo():
    assert {*LEFT_OUT, *HAS_ADAPTED_EXPERTS} <= {family.name for family in FAMILIES}
