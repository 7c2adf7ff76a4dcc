"""Checkpoints of an unfinished training run: save them, keep the newest two, and resume from the newest."""

import os
import shutil
from pathlib import Path

import torch.distributed as dist

from delia_ray.training.checkpoint.state import load_state, save_state
from delia_ray.training.data.packing import Pack
from delia_ray.training.engine import TrainEngine

_MAX_KEPT = 2


class CheckpointManager:
    """Saves and restores the checkpoints below ``inflight``. All workers call the same methods at the same steps."""

    def __init__(self, inflight: Path):
        self._inflight = inflight
        self._folder = inflight / "checkpoints"
        self._is_first_worker = dist.get_rank() == 0

    def restore(self, engine: TrainEngine, dummy_pack: Pack) -> int:
        """Load the newest checkpoint into ``engine``, if there is one, and return its number of finished steps, or 0.

        Args:
            dummy_pack: any pack; the optimizer creates its state in a step on it that changes no weight.

        Raises:
            UserError: the checkpoint cannot be used.
        """
        checkpoints = self._list_complete()
        step = load_state(engine, checkpoints[-1], dummy_pack) if checkpoints else 0
        if self._is_first_worker:  # an interrupted attempt may have begun to save its result
            shutil.rmtree(self._inflight / "trained", ignore_errors=True)
        return step

    def save(self, engine: TrainEngine, step: int) -> None:
        """Write the state after ``step`` steps atomically, then delete all checkpoints but the newest two."""
        folder = self._folder / f"step-{step:08d}"
        scratch = folder.with_name(f".{folder.name}")
        if self._is_first_worker:
            shutil.rmtree(scratch, ignore_errors=True)
            scratch.mkdir(parents=True)
        dist.barrier()
        save_state(engine, scratch, step)
        dist.barrier()
        if self._is_first_worker:
            os.replace(scratch, folder)
            for older in self._list_complete()[:-_MAX_KEPT]:
                shutil.rmtree(older)

    def _list_complete(self) -> list[Path]:
        """List the folders of complete checkpoints, oldest first."""
        return sorted(self._folder.glob("step-*"))
