"""Checkpoints of an unfinished training run: save them, keep the newest two, and resume from the newest."""

import os
import re
import shutil
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import torch.distributed as dist

from delia_ray.core.storage.objects import list_files, list_folders, remove, write_bytes
from delia_ray.core.storage.paths import is_remote
from delia_ray.core.storage.transfer import fetch, publish
from delia_ray.training.checkpoint.agreement import broadcast_from_first, failing_together
from delia_ray.training.checkpoint.state import load_state, save_state
from delia_ray.training.data.packing import Pack
from delia_ray.training.engine import TrainEngine

_MAX_KEPT = 2
_MARK = re.compile(r"(?P<checkpoint>step-\d+)\.uploaded-\d+-of-(?P<workers>\d+)")
"""Name of the empty object beside a checkpoint with which a worker says that its files are there."""


class CheckpointManager:
    """Saves and restores the checkpoints below ``inflight``. All workers call the same methods at the same steps.

    To an object store files are uploaded while the training goes on; a checkpoint is one when all workers have marked it.
    """

    def __init__(self, inflight: Path, trained: Path):
        """``trained`` is the folder for the result of the training."""
        self._trained = trained
        self._folder = inflight / "checkpoints"
        self._is_remote = is_remote(inflight)
        self._is_first_worker = dist.get_rank() == 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint-upload")
        self._upload: Future[None] | None = None

    def restore(self, engine: TrainEngine, dummy_pack: Pack) -> int:
        """Load the newest checkpoint into ``engine``, if there is one, and return its number of finished steps, or 0.

        Args:
            dummy_pack: any pack; the optimizer creates its state in a step on it that changes no weight.

        Raises:
            UserError: the checkpoint cannot be used.
        """
        with failing_together():
            checkpoints = self._list_complete()
        # The first worker's newest: another may see a later state of the store.
        newest = broadcast_from_first(_get_step(checkpoints[-1]) if checkpoints else 0)
        with failing_together():
            if newest:
                fetch(self._name(newest))
        step = load_state(engine, self._name(newest), dummy_pack) if newest else 0
        with failing_together():
            if self._is_first_worker:
                self._remove_unfinished(checkpoints)
        return step

    def _remove_unfinished(self, checkpoints: Sequence[Path]) -> None:
        """Remove what an interrupted attempt has begun."""
        for part in set(list_folders(self._folder, "step-*")) - set(checkpoints):
            self._remove(part)
        remove(self._trained)

    def save(self, engine: TrainEngine, step: int) -> None:
        """Write the state after ``step`` steps, when this worker's part of the one before is uploaded.

        Of complete checkpoints all but the newest two are deleted.
        """
        self.wait()
        folder = self._name(step)
        if self._is_remote:
            self._write_and_upload(engine, folder, step)
        else:
            self._write(engine, folder, step)

    def wait(self) -> None:
        """Wait until what this worker has saved is in the store. All workers call it.

        Raises:
            UserError: the object store does not take it.
            OtherWorkerError: it does not take what another worker has saved.
        """
        with failing_together():
            if self._upload is not None:
                self._upload.result()

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
            self._remove_older()

    def _write_and_upload(self, engine: TrainEngine, folder: Path, step: int) -> None:
        """Write this worker's part to its disk, from where it is uploaded and then removed."""
        folder.mkdir(parents=True, exist_ok=True)
        files: list[Path] = []
        save_state(engine, folder, step, files.append)
        mark = folder.with_name(f"{folder.name}.uploaded-{dist.get_rank()}-of-{dist.get_world_size()}")
        self._upload = self._thread.submit(self._move_to_store, files, mark)

    def _move_to_store(self, files: Sequence[Path], mark: Path) -> None:
        for file in files:
            publish(file)
            file.unlink()
        write_bytes(mark, b"")
        if self._is_first_worker:
            self._remove_older()

    def _remove_older(self) -> None:
        for older in self._list_complete()[:-_MAX_KEPT]:
            self._remove(older)

    def _name(self, step: int) -> Path:
        return self._folder / f"step-{step:08d}"

    def _remove(self, checkpoint: Path) -> None:
        if self._is_remote:
            for mark in list_files(self._folder, f"{checkpoint.name}.uploaded-*"):
                remove(mark)  # first: what is left is no checkpoint
        remove(checkpoint)

    def _list_complete(self) -> list[Path]:
        """List the folders of complete checkpoints, oldest first."""
        if not self._is_remote:
            return sorted(self._folder.glob("step-*"))
        marks = Counter(match.group("checkpoint", "workers") for file in list_files(self._folder) if (match := _MARK.fullmatch(file.name)))
        marked = {self._folder / checkpoint for (checkpoint, workers), count in marks.items() if count == int(workers)}
        return sorted(marked & set(list_folders(self._folder, "step-*")))  # a user may have removed a folder and no mark


def _get_step(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("step-"))
