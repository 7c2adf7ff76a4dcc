"""Checkpoints of an unfinished training run: save them, keep the newest two, and resume from the newest."""

import os
import shutil
from pathlib import Path

import torch.distributed as dist

from delia_ray.core.storage.objects import list_files, remove, write_bytes
from delia_ray.core.storage.paths import is_remote
from delia_ray.core.storage.transfer import fetch, publish
from delia_ray.training.checkpoint.state import load_state, save_state
from delia_ray.training.data.packing import Pack
from delia_ray.training.engine import TrainEngine

_MAX_KEPT = 2
_COMPLETE = ".complete"
"""End of the name of an object beside a checkpoint, which is written last."""


class CheckpointManager:
    """Saves and restores the checkpoints below ``inflight``. All workers call the same methods at the same steps."""

    def __init__(self, inflight: Path, trained: Path):
        """``trained`` is the folder for the result of the training."""
        self._trained = trained
        self._folder = inflight / "checkpoints"
        self._is_remote = is_remote(inflight)
        self._is_first_worker = dist.get_rank() == 0

    def restore(self, engine: TrainEngine, dummy_pack: Pack) -> int:
        """Load the newest checkpoint into ``engine``, if there is one, and return its number of finished steps, or 0.

        Args:
            dummy_pack: any pack; the optimizer creates its state in a step on it that changes no weight.

        Raises:
            UserError: the checkpoint cannot be used.
        """
        checkpoints = self._list_complete()
        step = load_state(engine, fetch(checkpoints[-1]), dummy_pack) if checkpoints else 0
        if self._is_first_worker:  # an interrupted attempt may have begun to save its result
            remove(self._trained)
        return step

    def save(self, engine: TrainEngine, step: int) -> None:
        """Write the state after ``step`` steps atomically, then delete all checkpoints but the newest two."""
        folder = self._folder / f"step-{step:08d}"
        if self._is_remote:
            self._upload(engine, folder, step)
        else:
            self._write(engine, folder, step)
        if self._is_first_worker:
            for older in self._list_complete()[:-_MAX_KEPT]:
                if self._is_remote:
                    remove(_mark(older))  # first: what is left is no checkpoint
                remove(older)

    def _write(self, engine: TrainEngine, folder: Path, step: int) -> None:
        scratch = folder.with_name(f".{folder.name}")
        if self._is_first_worker:
            shutil.rmtree(scratch, ignore_errors=True)
            scratch.mkdir(parents=True)
        dist.barrier()
        save_state(engine, scratch, step)
        dist.barrier()
        if self._is_first_worker:
            os.replace(scratch, folder)

    def _upload(self, engine: TrainEngine, folder: Path, step: int) -> None:
        """Upload this worker's part, which then leaves its node, and mark the checkpoint when all parts are there."""
        if self._is_first_worker:
            remove(folder)
        dist.barrier()
        folder.mkdir(parents=True, exist_ok=True)
        save_state(engine, folder, step, _move_to_store)
        dist.barrier()
        if self._is_first_worker:
            write_bytes(_mark(folder), b"")

    def _list_complete(self) -> list[Path]:
        """List the folders of complete checkpoints, oldest first."""
        if not self._is_remote:
            return sorted(self._folder.glob("step-*"))
        return [mark.with_name(mark.name.removesuffix(_COMPLETE)) for mark in list_files(self._folder, f"step-*{_COMPLETE}")]


def _move_to_store(file: Path) -> None:
    publish(file)
    file.unlink()


def _mark(checkpoint: Path) -> Path:
    return checkpoint.with_name(f"{checkpoint.name}{_COMPLETE}")
