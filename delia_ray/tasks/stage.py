"""The stage ``task``: the downstream rows, split, before any rewriting."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, assert_never, cast

import pyarrow as pa
import pyarrow.parquet as pq

from delia_ray.artifacts import Adopted, Artifact, Counts, Input, Provenance, Workspace, build_once
from delia_ray.config import Config
from delia_ray.fingerprint import hash_file
from delia_ray.readers import content_hash, data_files
from delia_ray.records import REJECT_SCHEMA, TASK_KIND, TASK_SCHEMA, Reject, TaskItem
from delia_ray.tasks.config import Decontaminate, FormatTask, MessagesTask, TaskConfig, TranslationTask
from delia_ray.tasks.formatted import format_items
from delia_ray.tasks.leaks import without_leaks
from delia_ray.tasks.messages import messages_items
from delia_ray.tasks.parallel import pair_files
from delia_ray.tasks.translation import translation_items

STAGE = "task/3"


class TaskRequest(Config):
    """What makes one set of items different from another."""

    task: TaskConfig
    decontaminate: Decontaminate | None


def prepare_task(task: TaskConfig, decontaminate: Decontaminate | None, out: Path, provenance: Provenance) -> Artifact:
    """Store ``train``, ``dev`` and ``test`` items of the task at ``out``; ``rejects`` has the training items that give a scored one away.

    Raises:
        UserError: a row of the user's files is not usable, or no training row is left; nothing is written then.
    """

    def write(workspace: Workspace) -> Counts:
        items, rejects = task_items(task), list[Reject]()
        if decontaminate is not None:
            items["train"], rejects = without_leaks(items, decontaminate)
        counts = {split: _write(rows, TASK_SCHEMA, workspace.data / f"{split}.parquet") for split, rows in items.items()}
        return {**counts, "rejected": _write(rejects, REJECT_SCHEMA, workspace.data / "rejects.parquet")}

    request = TaskRequest(task=task, decontaminate=decontaminate)
    return build_once(out, stage=STAGE, kind=TASK_KIND, request=request, inputs=adopt_files(task), provenance=provenance, write=write)


def read_items(task: Artifact) -> dict[str, list[TaskItem]]:
    """The items of each split that ``prepare_task`` stored."""
    return {split: cast(list[TaskItem], pq.read_table(task.data / f"{split}.parquet").to_pylist()) for split in ("train", "dev", "test")}


def task_items(task: TaskConfig) -> dict[str, list[TaskItem]]:
    """Items of each split, straight from the config."""
    match task:
        case FormatTask():
            return format_items(task)
        case MessagesTask():
            return messages_items(task)
        case TranslationTask():
            return translation_items(task)
        case _:
            assert_never(task)


def adopt_files(task: TaskConfig) -> dict[str, Input]:
    """The files that the task is read from, by the hashes of their bytes.

    Raises:
        UserError: one cannot be read.
    """
    match task:
        case FormatTask():
            return {}
        case MessagesTask(train=train, test=test):
            places = {"train": train, "test": test}
            return {role: Adopted(place, content_hash(place, data_files(place, f"task.{role}"))) for role, place in places.items()}
        case TranslationTask():
            given = {"pairs": task.pairs, "dev_pairs": task.dev_pairs, "test_pairs": task.test_pairs}
            files = {f"{name} {file.name}": file for name, pairs in given.items() if pairs for file in pair_files(pairs, f"task.{name}")}
            return {role: Adopted(file, hash_file(file)) for role, file in files.items()}
        case _:
            assert_never(task)


def _write(rows: Sequence[Mapping[str, Any]], schema: pa.Schema, file: Path) -> int:
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), file)  # pyright: ignore[reportUnknownMemberType]
    return len(rows)
