"""torch 2.13: tensors without data on a real device, and the backward pass of softmax as one kernel.

``FakeTensorMode`` and what belongs to it can go when ``torch.device("meta")`` runs the models that it runs:
https://pytorch.org/docs/stable/meta.html. The kernel is the one that autograd calls for ``softmax``; there is no public name for it.
"""

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode, unset_fake_temporarily

__all__ = ["FakeTensorMode", "WatchedFakeTensorMode", "has_data", "softmax_backward", "unset_fake_temporarily"]


class WatchedFakeTensorMode(FakeTensorMode):
    """A ``FakeTensorMode`` that shows what each operation returns to ``watch``, and not what the operations return that it is made of here.

    A mode of its own above ``FakeTensorMode`` would take twice the time.
    """

    def __init__(self, watch: Callable[[Any], None]):
        super().__init__(allow_non_fake_inputs=True)
        logging.getLogger(FakeTensor.__module__).setLevel(logging.CRITICAL)  # it logs each error that it raises
        self._watch = watch
        self._is_inside = False

    def dispatch(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self._is_inside:
            return super().dispatch(func, types, args, kwargs)
        self._is_inside = True
        try:
            outputs = super().dispatch(func, types, args, kwargs)
        finally:
            self._is_inside = False
        self._watch(outputs)
        return outputs


def has_data(tensor: Tensor) -> bool:
    """Whether the tensor has elements that can be read, and not only a shape."""
    return not tensor.is_meta and not isinstance(tensor, FakeTensor)


def softmax_backward(grad: Tensor, output: Tensor) -> Tensor:
    """The gradient of ``softmax(x, -1)`` with respect to x, from its output."""
    backward: Any = torch.ops.aten._softmax_backward_data
    return backward(grad, output, -1, output.dtype)
