"""DeepSpeed 0.19: attributes that ZeRO puts on parameters and optimizers, and the keys that a config is read for.

The attributes can go when ``deepspeed.utils`` has accessors for them, the linking of moments when DeepSpeed does it for every group
(https://github.com/deepspeedai/DeepSpeed/blob/master/deepspeed/utils/mixed_precision_linkage.py), and the key check when
DeepSpeed rejects keys that it does not know.
"""

from collections.abc import Mapping
from typing import Any

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


def unwrap_optimizer(optimizer: Any) -> Any:
    """The optimizer inside DeepSpeed's ZeRO or mixed-precision wrapper, or ``optimizer`` itself where there is none."""
    return optimizer.optimizer if hasattr(optimizer, "optimizer") else optimizer


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
