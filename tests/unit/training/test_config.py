from pathlib import Path

import pytest

from delia_ray.core.config import build_config
from delia_ray.core.errors import UserError
from delia_ray.settings import Settings


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("finetune.objective={kind: kl}", None),
        ("finetune={objective: {kind: kl}, parameters: {kind: full}}", r"objective\.kind: kl .*parameters\.kind=full, use lora"),
        ("placement.finetune.workers=[1, 4]", None),
        ("placement.finetune.workers=[4, 1]", r"workers: must be at least 1.*found \[4, 1\]"),
        ("placement.finetune.workers=0", "workers: must be at least 1.*found '0'"),
        ("placement.finetune.offload=cpu", None),
        ("placement.finetune={offload: cpu, zero_stage: 0}", "offload: cpu needs ZeRO"),
        ("placement.finetune.offload=nvme", "needs nvme_path and zero_stage=3"),
        ("placement.finetune.deepspeed={zero_optimization: {reduce_bucket_size: 1000}}", None),
        ("placement.finetune.deepspeed={optimizer: {type: Adam}, bf16: {enabled: true}}", "bf16, optimizer cannot be set here"),
        ("placement.finetune.trackers=[wandb, visdom]", "trackers"),
    ],
)
def test_settings_that_contradict_each_other_are_named(override: str, named: str | None):
    overrides = ["run.name=r", override]
    if named is None:
        build_config(Settings, list[Path](), overrides)
        return
    with pytest.raises(UserError, match=named):
        build_config(Settings, list[Path](), overrides)
