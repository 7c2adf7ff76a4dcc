"""DeepSpeed 0.19: attributes that ZeRO puts on parameters and optimizers, and the keys that a config is read for.

The attributes and the float32 copies can go when ``deepspeed.utils`` has accessors for them, the linking of moments when DeepSpeed does it
for every group (https://github.com/deepspeedai/DeepSpeed/blob/master/deepspeed/utils/mixed_precision_linkage.py), the undoing of a step
when DeepSpeed's ``FP16_UnfusedOptimizer`` takes none when it is made, and the key check when DeepSpeed rejects keys that it does not know.
"""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import torch.distributed as dist
from torch import Tensor


def is_partitioned(parameter: Tensor) -> bool:
    """Whether ZeRO-3 holds the parameter in parts, so that the tensor in its place is empty."""
    return hasattr(parameter, "ds_id")


def get_shape(parameter: Tensor) -> tuple[int, ...]:
    """The whole parameter's shape."""
    return tuple(parameter.ds_shape if is_partitioned(parameter) else parameter.shape)  # pyright: ignore[reportAttributeAccessIssue]


def get_numel(parameter: Tensor) -> int:
    """The whole parameter's number of elements."""
    return int(parameter.ds_numel if is_partitioned(parameter) else parameter.numel())  # pyright: ignore[reportAttributeAccessIssue]


def gather(parameters: Sequence[Tensor], *, modifier_rank: int | None = None) -> Any:
    """Return a context in which the parameters that ZeRO-3 partitions are whole on every worker.

    Args:
        parameters: of which some or none may be partitioned.
        modifier_rank: the worker whose changes all get; None to change nothing.
    """
    partitioned = [parameter for parameter in parameters if is_partitioned(parameter)]
    if not partitioned:
        return nullcontext()
    from deepspeed import zero  # noqa: PLC0415  seconds to import

    return zero.GatheredParameters(partitioned, modifier_rank=modifier_rank)


def find_partition(parameter: Tensor) -> slice | None:
    """Find the elements of the flattened parameter that this worker holds, those of the padding at its end included.

    None without ZeRO-3, and if they are on a disk.
    """
    part: Any = getattr(parameter, "ds_tensor", None)
    if part is None or part.status.name != "AVAILABLE":
        return None
    start = part.ds_numel * dist.get_rank(parameter.ds_process_group)  # pyright: ignore[reportAttributeAccessIssue]
    return slice(start, start + part.ds_numel)


def is_kept_whole(parameter: Tensor) -> bool:
    """Whether ZeRO-3 leaves the parameter whole on every worker, besides the partitions, because it is small."""
    return is_partitioned(parameter) and parameter.ds_persist  # pyright: ignore[reportAttributeAccessIssue]


def is_on_disk(parameter: Tensor) -> bool:
    """Whether ZeRO-3 offloads the parameter's partitions to NVMe."""
    return getattr(parameter, "nvme_swapper", None) is not None


def set_partition(parameter: Tensor, value_P: Tensor, moments: Mapping[str, Tensor]) -> None:
    """Set what this worker holds of a trained parameter: its weights, their float32 copy and AdamW's moments.

    Args:
        parameter: one that ``find_partition`` finds elements of.
        value_P: [P] elements of the partition, padding included.
        moments: name -> [P].
    """
    from deepspeed.utils import safe_set_local_fp32_param, safe_set_local_optimizer_state  # noqa: PLC0415  as above

    parameter.ds_tensor.data.copy_(value_P)  # pyright: ignore[reportAttributeAccessIssue]
    safe_set_local_fp32_param(parameter, value_P)
    for name, moment_P in moments.items():
        safe_set_local_optimizer_state(parameter, moment_P, name)


def unwrap_optimizer(optimizer: Any) -> Any:
    """The optimizer inside DeepSpeed's ZeRO or mixed-precision wrapper, or ``optimizer`` itself where there is none."""
    return optimizer.optimizer if hasattr(optimizer, "optimizer") else optimizer


def forget_initial_step(optimizer: Any) -> None:
    """Undo the step that DeepSpeed's optimizer takes when it is made, where it counts as the first of the training.

    Without ZeRO in half precision it creates AdamW's state in a step on gradients of zero. Left as it is, the bias correction of the first
    real step is that of the second, which makes it a quarter smaller, and weight decay has been applied once more.

    Args:
        optimizer: DeepSpeed's optimizer, before the first step.
    """
    for parameters, masters in _pair_groups(optimizer):
        for parameter, master in zip(parameters, masters, strict=True):
            optimizer.optimizer.state.pop(master, None)
            master.data.copy_(parameter.data)


def has_zero_state(parameter: Tensor) -> bool:
    """Whether a ZeRO optimizer holds the parameter's state, so that DeepSpeed's ``safe_get`` and ``safe_set`` functions find it."""
    return is_partitioned(parameter) or hasattr(parameter, "_hp_mapping")


def find_master(optimizer: Any, parameter: Tensor) -> Tensor:
    """The tensor that AdamW updates for a parameter without ZeRO: in half precision a float32 copy of it, else the parameter itself.

    Args:
        optimizer: DeepSpeed's optimizer.
    """
    for parameters, masters in _pair_groups(optimizer):
        for each, master in zip(parameters, masters, strict=True):
            if each is parameter:
                return master
    return parameter


def _pair_groups(optimizer: Any) -> list[tuple[list[Tensor], list[Tensor]]]:
    """The groups of parameters, and of their float32 copies, of DeepSpeed's optimizer without ZeRO in half precision; none of others."""
    if not (hasattr(optimizer, "fp16_groups") and hasattr(optimizer, "fp32_groups")):
        return []
    return list(zip(optimizer.fp16_groups, optimizer.fp32_groups, strict=True))


def link_moments(wrapper: Any, state: Any) -> None:
    """Link the moments of every parameter group to DeepSpeed's parameters, so that its ``safe_get`` and ``safe_set`` functions find them.

    DeepSpeed does so after its first step, but on stages 1 and 2 before any group but the first has moments. Other stages need none.

    Args:
        wrapper: DeepSpeed's optimizer.
        state: the state of the optimizer inside.
    """
    from deepspeed.utils import lazy_init_hp_params_optimizer_state  # noqa: PLC0415  seconds to import

    if hasattr(wrapper, "bit16_groups") and hasattr(wrapper, "single_partition_of_fp32_groups"):
        for group, partition in zip(wrapper.bit16_groups, wrapper.single_partition_of_fp32_groups, strict=True):
            lazy_init_hp_params_optimizer_state(group, partition, state)


def list_read_keys(config: Mapping[str, Any]) -> set[str]:
    """The keys of ``config`` that DeepSpeed reads; it ignores others in silence.

    Raises:
        pydantic.ValidationError, DeepSpeedConfigError, ValueError, TypeError, AttributeError, AssertionError: a value is not usable.
    """
    from deepspeed.runtime.config import DeepSpeedConfig  # noqa: PLC0415

    tracked = _ReadTrackingDict(config)
    DeepSpeedConfig(tracked)
    return tracked.read_keys


class _ReadTrackingDict(dict[str, Any]):
    """A dictionary that records which keys are read.

    Attributes:
        read_keys: the keys read so far. A copy adds to the same set.
    """

    def __init__(self, items: Mapping[str, Any]):
        super().__init__(items)
        self.read_keys: set[str] = set()

    def get(self, key: str, default: Any = None) -> Any:
        self.read_keys.add(key)
        return super().get(key, default)

    def __getitem__(self, key: str) -> Any:
        self.read_keys.add(key)
        return super().__getitem__(key)

    def __contains__(self, key: object) -> bool:
        self.read_keys.add(str(key))
        return super().__contains__(key)
