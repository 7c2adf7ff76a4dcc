"""What all workers of a training decide alike, since they go through the same collectives afterwards."""

import torch
import torch.distributed as dist


class OtherWorkerError(RuntimeError):
    """Another worker met an error that a user can fix, and has said so."""


def is_true_on_any_worker(condition: bool) -> bool:
    """Whether ``condition`` is true on one worker or more. All workers call it."""
    votes = _on_device(float(condition))
    dist.all_reduce(votes)
    return bool(votes.item())


def take_first_workers(number: int) -> int:
    """Return the first worker's ``number``. All workers call it."""
    told = _on_device(float(number))
    dist.broadcast(told, src=0)
    return int(told.item())


def raise_together(error: BaseException | None) -> None:
    """Raise ``error`` where there is one, and something on all other workers, which would wait for that one. All workers call it.

    Raises:
        OtherWorkerError: another worker has an error, and this one none.
    """
    if not is_true_on_any_worker(error is not None):
        return
    if error is not None:
        raise error
    raise OtherWorkerError


def _on_device(number: float) -> torch.Tensor:
    told = torch.tensor([number], dtype=torch.float64)
    return told.cuda() if dist.get_backend() == "nccl" else told
