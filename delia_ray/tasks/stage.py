"""The stage ``task``: the downstream rows, split, before any rewriting."""

from collections.abc import Sequence
from pathlib import Path
from typing import assert_never

import pyarrow as pa
import pyarrow.parquet as pq

from delia_ray.artifacts import Adopted, Artifact, Counts, Input, Provenance, Workspace, build_once
from delia_ray.fingerprint import hash_file
from delia_ray.records import TASK_KIND, TASK_SCHEMA, TaskItem
from delia_ray.tasks.config import FormatTask, MessagesTask
from delia_ray.tasks.formatted import format_items
from delia_ray.tasks.messages import messages_items

STAGE = "task/1"


def prepare_task(task: FormatTask | MessagesTask, out: Path, provenance: Provenance) -> Artifact:
    """Store ``train``, ``dev`` and ``test`` items of the task at ``out``.

    Raises:
        UserError: a row of the user's files is not usable; nothing is written then.
    """

    def write(workspace: Workspace) -> Counts:
        return {split: _write(rows, workspace.data / f"{split}.parquet") for split, rows in task_items(task).items()}

    return build_once(out, stage=STAGE, kind=TASK_KIND, request=task, inputs=_adopt(task), provenance=provenance, write=write)


def task_items(task: FormatTask | MessagesTask) -> dict[str, list[TaskItem]]:
    """Items of each split, straight from the config."""
    match task:
        case FormatTask():
            return format_items(task)
        case MessagesTask():
            return messages_items(task)
        case _:
            assert_never(task)


def _adopt(task: FormatTask | MessagesTask) -> dict[str, Input]:
    match task:
        case FormatTask():
            return {}
        case MessagesTask(train=train, test=test):
            return {"train": Adopted(train, hash_file(train)), "test": Adopted(test, hash_file(test))}
        case _:
            assert_never(task)


def _write(rows: Sequence[TaskItem], file: Path) -> int:
    pq.write_table(pa.Table.from_pylist(list(rows), schema=TASK_SCHEMA), file)  # pyright: ignore[reportUnknownMemberType]
    return len(rows)
