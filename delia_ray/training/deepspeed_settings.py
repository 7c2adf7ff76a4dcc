"""The DeepSpeed config: built from the fine-tuning config and the placement, with the user's own keys over both."""

from collections.abc import Mapping
from typing import Any

import torch
from deepspeed import DeepSpeedConfigError
from pydantic import ValidationError

from delia_ray.core.config_errors import explain_section_error
from delia_ray.core.errors import UserError
from delia_ray.placement import TrainWorkers
from delia_ray.training.config import FinetuneConfig
from delia_ray.upstream.deepspeed_zero import list_read_keys

_KEY = "placement.finetune.deepspeed"


def build_deepspeed_config(config: FinetuneConfig, workers: TrainWorkers, dtype: torch.dtype) -> dict[str, Any]:
    """Build the DeepSpeed config from ``config`` and ``workers``, and let the keys of ``placement.finetune.deepspeed`` override it.

    Raises:
        UserError: DeepSpeed cannot read ``placement.finetune.deepspeed``, or does not know one of its keys.
    """
    zero: dict[str, Any] = {"stage": workers.zero_stage, "overlap_comm": False}
    if workers.offload != "none":
        target = {"device": workers.offload, **({"nvme_path": str(workers.nvme_path)} if workers.offload == "nvme" else {})}
        zero["offload_optimizer"] = target
        if workers.zero_stage == 3:
            zero["offload_param"] = target
    defaults: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        # Workers may hold different numbers of packs, so gradients are reduced once, in step().
        "managed_gradient_accumulation": False,
        "gradient_clipping": config.max_grad_norm,
        "zero_optimization": zero,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "bf16": {"enabled": dtype == torch.bfloat16},
        "fp16": {"enabled": dtype == torch.float16},
        "wall_clock_breakdown": False,
    }
    overrides = dict(workers.deepspeed)
    zero.update(overrides.pop("zero_optimization", {}))
    deepspeed_config = {**defaults, **overrides}
    if workers.deepspeed:
        _check_overrides(deepspeed_config, workers.deepspeed)
    return deepspeed_config


def _check_overrides(deepspeed_config: Mapping[str, Any], overrides: Mapping[str, Any]) -> None:
    """Raise a ``UserError`` that names the keys of ``overrides`` that DeepSpeed cannot read or never reads."""
    try:
        read_keys = list_read_keys(deepspeed_config)
    except ValidationError as error:
        raise UserError(explain_section_error(_KEY, overrides, error)) from None
    except (DeepSpeedConfigError, ValueError, TypeError, AttributeError, AssertionError) as error:  # of a scalar for a section
        reason = " ".join(str(error).split())
        raise UserError(f"{_KEY}: DeepSpeed cannot read one of {', '.join(overrides)} ({reason}); correct or remove it") from None
    if unread := sorted(set(overrides) - read_keys):
        raise UserError(f"{_KEY}: DeepSpeed knows no {', '.join(unread)}; correct or remove it")
