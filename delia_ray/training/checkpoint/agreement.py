"""What all workers of a training decide alike, since they go through the same collectives afterwards."""

from collections.abc import Generator
from contextlib import contextmanager

import torch
import torch.distributed as dist

from delia_ray.core.errors import UserError
from delia_ray.training.job import CommonError


class OtherWorkerError(RuntimeError):
    """Another worker has met an error that a user can fix, and reports it."""


def is_true_on_any_worker(condition: bool) -> bool:
    """Whether ``condition`` is true on one worker or more. All workers call it."""
    votes = _on_device(float(condition))
    dist.all_reduce(votes)
    return bool(votes.item())


def broadcast_from_first(number: int) -> int:
    """Return the first worker's ``number``. All workers call it."""
    told = _on_device(float(number))
    dist.broadcast(told, src=0)
    return int(told.item())


@contextmanager
def failing_together() -> Generator[None]:
    """Leave the block with an error on all workers if one has a ``UserError`` in it: in a collective, they would wait for that one.

    Raises:
        CommonError: this worker has one.
        OtherWorkerError: another worker has one.
    """
    try:
        yield
    except UserError as error:
        is_true_on_any_worker(True)
        raise CommonError(str(error)) from error
    if is_true_on_any_worker(False):
        raise OtherWorkerError


def _on_device(number: float) -> torch.Tensor:
    told = torch.tensor([number], dtype=torch.float64)
    return told.cuda() if dist.get_backend() == "nccl" else told
