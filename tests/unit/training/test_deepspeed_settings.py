"""The user's DeepSpeed keys: they reach DeepSpeed, and a mistake is named by its key."""

from typing import Any

import pytest
import torch

from delia_ray.core.errors import UserError
from delia_ray.placement import TrainWorkers
from delia_ray.training.config import FinetuneConfig
from delia_ray.training.deepspeed_settings import build_deepspeed_config

KEY = "placement.finetune.deepspeed"


def build(overrides: dict[str, Any]) -> dict[str, Any]:
    return build_deepspeed_config(FinetuneConfig(), TrainWorkers(deepspeed=overrides), torch.float32)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"zero_optimization": {"reduce_bucket_sizes": 5}}, ".zero_optimization.reduce_bucket_sizes: unknown key; correct or remove it"),
        (
            {"zero_optimization": {"reduce_bucket_size": "much"}},
            ".zero_optimization.reduce_bucket_size: must be a whole number, found 'much'",
        ),
        (
            {"zero_optimization": {"offload_optimizer": {"device": "moon"}}},
            ".zero_optimization.offload_optimizer.device: must be 'none', 'cpu' or 'nvme', found 'moon'",
        ),
        ({"comms_logger": {"enabled": True, "verbosee": 1}}, ".comms_logger.verbosee: unknown key; correct or remove it"),
        ({"tensorboard": {"enabled": 3}}, ".tensorboard.enabled: must be true or false, found 3"),
        ({"step_per_print": 5}, ": DeepSpeed knows no step_per_print; correct or remove it"),
    ],
)
def test_a_mistake_is_named_by_its_key_in_plain_words(overrides: dict[str, Any], message: str):
    with pytest.raises(UserError) as caught:
        build(overrides)
    assert str(caught.value) == KEY + message


@pytest.mark.parametrize("overrides", [{"flops_profiler": 3}, {"communication_data_type": "fp99"}, {"checkpoint": {"tag_validation": "z"}}])
def test_what_deepspeed_cannot_read_is_one_line_with_its_key(overrides: dict[str, Any]):
    with pytest.raises(UserError, match=f"^{KEY}: DeepSpeed cannot read one of {next(iter(overrides))} .*; correct or remove it$"):
        build(overrides)


def test_a_key_that_deepspeed_knows_is_added_to_the_defaults():
    config = build({"steps_per_print": 5, "zero_optimization": {"reduce_bucket_size": 7}})
    assert config["steps_per_print"] == 5
    assert config["zero_optimization"] == {"stage": 1, "overlap_comm": False, "reduce_bucket_size": 7}
