"""Bytes of the tensors that are alive while code runs on tensors without data, by what they are for, and the largest sum of them."""

import weakref
from collections import Counter
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor

from delia_ray.upstream.torch_internals import WatchedFakeTensorMode

Use = Literal["layers", "logits", "gradients", "bucket"]
"""What a tensor is for: the layers' activations; the logits and the loss; gradients of trained parameters; the buffer in which they are
reduced."""


class LiveBytes:
    """Counts the storages of tensors without data, each once, from when an operation returns it until it is freed.

    What a kernel holds within one operation is not counted.

    Attributes:
        mode: the mode in which tensors have no data.
        use: what the tensors are for that are created from now on.
        peak: bytes by use when their sum was largest.
    """

    def __init__(self):
        self.mode = WatchedFakeTensorMode(self._see)
        self.use: Use = "layers"
        self.peak: Mapping[Use, int] = {}
        self._live: Counter[Use] = Counter()
        self._largest = 0
        self._uses: dict[int, Use | None] = {}
        """Id of a storage -> what it is for; None where it is not counted."""
        self._is_counting = False

    @contextmanager
    def count(self, ignored: Iterable[Tensor]) -> Generator[None]:
        """Run the block on tensors without data, and count all but those of ``ignored``."""
        self._uses |= {id(tensor.untyped_storage()): None for tensor in ignored}
        self._is_counting = True
        with self.mode:
            yield
        self._is_counting = False

    def assign(self, tensor: Tensor, use: Use) -> None:
        """Say what a tensor is for that was created for something else."""
        storage = tensor.untyped_storage()
        if (before := self._uses.get(id(storage))) is not None:
            self._live[before] -= storage.nbytes()
            self._live[use] += storage.nbytes()
            self._uses[id(storage)] = use

    def _see(self, outputs: Any) -> None:
        if not self._is_counting:
            return
        for output in outputs if isinstance(outputs, tuple | list) else (outputs,):
            if isinstance(output, Tensor):
                self._add(output.untyped_storage())

    def _add(self, storage: torch.UntypedStorage) -> None:
        if id(storage) in self._uses:
            return
        self._uses[id(storage)] = self.use
        self._live[self.use] += storage.nbytes()
        weakref.finalize(storage, self._remove, id(storage), storage.nbytes())
        if self._live.total() > self._largest:
            self._largest, self.peak = self._live.total(), dict(self._live)

    def _remove(self, storage: int, size: int) -> None:
        use = self._uses.pop(storage)
        if use is not None:
            self._live[use] -= size
