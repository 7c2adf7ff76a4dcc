"""Adapters are checked before anything is built, and attached to layers that can be trained and merged."""

from pathlib import Path

import pytest
from family_table import FAMILIES, Family

from delia_ray.core.errors import UserError
from delia_ray.training.config import Lora
from delia_ray.training.lora import check_lora, find_excluded_layers

EXCLUDED = {"llama4": {"router"}, "phimoe": {"router"}, "falcon_h1": {"out_proj"}, "nemotron_h": {"out_proj"}, "mamba": {"out_proj"}}
ADAPTS_EXPERTS = {"mixtral"}


def test_all_linear_excludes_only_layers_that_cannot_have_an_adapter(family: Family, zoo: dict[str, Path]):
    lora = Lora(dropout=0.0)
    check_lora(zoo[family.name], lora)
    excluded = {name.rpartition(".")[2] for name in find_excluded_layers(zoo[family.name], lora)}
    assert excluded == EXCLUDED.get(family.name, set())


def test_the_default_adapter_is_accepted_or_rejected_with_a_fix(family: Family, zoo: dict[str, Path]):
    if family.name in ADAPTS_EXPERTS:
        with pytest.raises(UserError, match=r"^finetune\.parameters: .* set finetune\.parameters\.dropout=0$"):
            check_lora(zoo[family.name], Lora())
    else:
        check_lora(zoo[family.name], Lora())


@pytest.mark.parametrize(
    ("name", "lora", "message"),
    [
        (
            "phimoe",
            Lora(targets=("q_proj", "router")),
            r"targets: router of phimoe is no plain linear layer, .* name others, or all-linear",
        ),
        ("mamba", Lora(targets=("out_proj",)), r"targets: \['out_proj'\] \(.*incompatible.*\); the model has dt_proj, in_proj"),
        ("llama", Lora(targets=("q_proj", "v_prjo")), "targets: no layer of llama is called v_prjo; the model has down_proj, .*q_proj"),
        ("llama_tied", Lora(targets=("q_proj", "embed_tokens")), r"targets: `embed_tokens` is tied to the output head in this model"),
        ("mixtral", Lora(variant="dora"), r"set finetune\.parameters\.dropout=0 and finetune\.parameters\.variant=plain"),
    ],
    ids=["router", "weights of a kernel", "an unknown name", "tied embedding", "two settings at once"],
)
def test_an_adapter_that_cannot_be_trained_is_rejected_in_one_line(zoo: dict[str, Path], name: str, lora: Lora, message: str):
    with pytest.raises(UserError, match=rf"^finetune\.parameters.*{message}") as caught:
        check_lora(zoo[name], lora)
    assert "\n" not in str(caught.value)


def test_the_families_of_this_test_exist():
    assert {*EXCLUDED, *ADAPTS_EXPERTS} <= {family.name for family in FAMILIES}
