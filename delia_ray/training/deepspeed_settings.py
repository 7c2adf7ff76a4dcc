"""DeepSpeed's own configuration, from what is asked, where it runs, and the user's keys over both."""

from collections.abc import Mapping
from typing import Any

import torch
from deepspeed.runtime.config import DeepSpeedConfig, DeepSpeedConfigError
from pydantic import ValidationError

from delia_ray.config_errors import explain_section
from delia_ray.errors import UserError
from delia_ray.placement import TrainWorkers
from delia_ray.training.config import FinetuneConfig

_KEY = "placement.finetune.deepspeed"


def deepspeed_settings(config: FinetuneConfig, workers: TrainWorkers, dtype: torch.dtype) -> dict[str, Any]:
    """DeepSpeed's dictionary: what the request and the placement say, and ``placement.finetune.deepspeed`` over it.

    Raises:
        UserError: DeepSpeed does not understand ``placement.finetune.deepspeed``.
    """
    zero: dict[str, Any] = {"stage": workers.zero_stage, "overlap_comm": False}
    if workers.offload != "none":
        target = {"device": workers.offload, **({"nvme_path": str(workers.nvme_path)} if workers.offload == "nvme" else {})}
        zero["offload_optimizer"] = target
        if workers.zero_stage == 3:
            zero["offload_param"] = target
    ours: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        # Workers may hold different numbers of packs, so gradients are reduced once, in step().
        "managed_gradient_accumulation": False,
        "gradient_clipping": config.gradient_clip,
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "bf16": {"enabled": dtype == torch.bfloat16},
        "fp16": {"enabled": dtype == torch.float16},
        "wall_clock_breakdown": False,
    }
    given = dict(workers.deepspeed)
    zero.update(given.pop("zero_optimization", {}))
    settings = {**ours, **given}
    if workers.deepspeed:
        _check_understood(settings, workers.deepspeed)
    return settings


def _check_understood(settings: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    read = _Read(settings)
    try:
        DeepSpeedConfig(read)
    except ValidationError as error:
        raise UserError(explain_section(_KEY, given, error)) from None
    except (DeepSpeedConfigError, ValueError, TypeError, AttributeError, AssertionError) as error:  # of a value that it takes for a section
        said = " ".join(str(error).split())
        raise UserError(f"{_KEY}: DeepSpeed cannot read one of {', '.join(given)} ({said}); correct or remove it") from None
    if unread := sorted(set(given) - read.read):
        raise UserError(f"{_KEY}: DeepSpeed knows no {', '.join(unread)}; correct or remove it")


class _Read(dict[str, Any]):
    """A configuration that remembers which of its keys were read: DeepSpeed passes over one that it does not know.

    Attributes:
        read: those keys. A copy adds to the same set.
    """

    def __init__(self, items: Mapping[str, Any]):
        super().__init__(items)
        self.read: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        self.read.add(key)
        return super().get(key, default)

    def __getitem__(self, key: str) -> Any:
        self.read.add(key)
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        self.read.add(str(key))
        return super().__contains__(key)
