"""torch 2.13: tensors without data on a real device, and the backward pass of softmax as one kernel.

``FakeTensorMode`` can go when ``torch.device("meta")`` runs the models that it runs: https://pytorch.org/docs/stable/meta.html. The
kernel is the one that autograd calls for ``softmax``; there is no public name for it.
"""

from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

__all__ = ["FakeTensorMode", "softmax_backward"]


def softmax_backward(grad: Tensor, output: Tensor) -> Tensor:
    """The gradient of ``softmax(x, -1)`` with respect to x, from its output."""
    backward: Any = torch.ops.aten._softmax_backward_data
    return backward(grad, output, -1, output.dtype)
