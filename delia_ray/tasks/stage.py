"""Stage ``task``: the task's train, dev and test items, before rewriting."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, assert_never, cast

import pyarrow as pa
import pyarrow.parquet as pq

from delia_ray.core.artifacts import Adopted, Artifact, Counts, Input, Provenance, Workspace, build_once
from delia_ray.core.config import Config
from delia_ray.core.fingerprint import hash_file
from delia_ray.core.records import REJECT_SCHEMA, TASK_KIND, TASK_SCHEMA, Reject, TaskItem
from delia_ray.tasks.config import Decontaminate, FormatTask, MessagesTask, TaskConfig, TranslationTask
from delia_ray.tasks.contamination import remove_contaminated
from delia_ray.tasks.format_task import build_format_items
from delia_ray.tasks.messages import load_messages_items
from delia_ray.tasks.parallel_text import find_pair_files
from delia_ray.tasks.readers import find_data_files, hash_content
from delia_ray.tasks.translation import build_translation_items

STAGE = "task/3"


class TaskRequest(Config):
    """Request of the stage ``task``: the configs that determine its items."""

    task: TaskConfig
    decontaminate: Decontaminate | None


def prepare_task(task: TaskConfig, decontaminate: Decontaminate | None, out: Path, provenance: Provenance) -> Artifact:
    """Store ``train``, ``dev`` and ``test`` items at ``out``, and in ``rejects`` the training items that overlap with evaluation items.

    Raises:
        UserError: a row of the user's files is invalid, or no training row is left; nothing is written then.
    """

    def write(workspace: Workspace) -> Counts:
        items, rejects = build_task_items(task), list[Reject]()
        if decontaminate is not None:
            items["train"], rejects = remove_contaminated(items, decontaminate)
        counts = {split: _write_parquet(rows, TASK_SCHEMA, workspace.data / f"{split}.parquet") for split, rows in items.items()}
        return {**counts, "rejected": _write_parquet(rejects, REJECT_SCHEMA, workspace.data / "rejects.parquet")}

    request = TaskRequest(task=task, decontaminate=decontaminate)
    return build_once(out, stage=STAGE, kind=TASK_KIND, request=request, inputs=adopt_files(task), provenance=provenance, write=write)


def read_items(task: Artifact) -> dict[str, list[TaskItem]]:
    """Read the items of each split that ``prepare_task`` stored."""
    return {split: cast(list[TaskItem], pq.read_table(task.fetch(f"{split}.parquet")).to_pylist()) for split in ("train", "dev", "test")}


def build_task_items(task: TaskConfig) -> dict[str, list[TaskItem]]:
    """Build the items of each split from the config."""
    match task:
        case FormatTask():
            return build_format_items(task)
        case MessagesTask():
            return load_messages_items(task)
        case TranslationTask():
            return build_translation_items(task)
        case _:
            assert_never(task)


def adopt_files(task: TaskConfig) -> dict[str, Input]:
    """Adopt the files of the task as inputs, identified by the hashes of their bytes.

    Raises:
        UserError: a file cannot be read.
    """
    match task:
        case FormatTask():
            return {}
        case MessagesTask(train=train, test=test):
            paths = {"train": train, "test": test}
            return {role: Adopted(path, hash_content(path, find_data_files(path, f"task.{role}"))) for role, path in paths.items()}
        case TranslationTask():
            sources = {"pairs": task.pairs, "dev_pairs": task.dev_pairs, "test_pairs": task.test_pairs}
            files = {
                f"{name} {file.name}": file for name, pairs in sources.items() if pairs for file in find_pair_files(pairs, f"task.{name}")
            }
            return {role: Adopted(file, hash_file(file)) for role, file in files.items()}
        case _:
            assert_never(task)


def _write_parquet(rows: Sequence[Mapping[str, Any]], schema: pa.Schema, file: Path) -> int:
    """Write rows as Parquet and return their number."""
    pq.write_table(pa.Table.from_pylist(list(rows), schema=schema), file)  # pyright: ignore[reportUnknownMemberType]
    return len(rows)
