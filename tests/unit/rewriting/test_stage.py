"""Rewritten rows: their wordings, and what scored rows record of it."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from delia_ray.core.artifacts import Artifact, Provenance
from delia_ray.rewriting.config import GrammarRewrite, NoRewrite
from delia_ray.rewriting.stage import rewrite
from delia_ray.tasks.config import FormatTask, TranslationTask
from delia_ray.tasks.stage import prepare_task

PROVENANCE = Provenance(None, ["pytest"])


def read_rows(artifact: Artifact, split: str) -> list[dict[str, Any]]:
    return pq.read_table(artifact.data / f"{split}.parquet").to_pylist()


def rewrite_task(folder: Path, config: GrammarRewrite | NoRewrite, task: FormatTask | TranslationTask) -> Artifact:
    task_artifact = prepare_task(task, None, folder / "task", PROVENANCE)
    return rewrite(config, task_artifact, task.token, (), lambda prompt, seed: "", folder / "rewritten", PROVENANCE)


@pytest.mark.parametrize("split", ["dev", "test"])
def test_every_scored_row_names_the_wording_it_shares_with_others(tmp_path: Path, split: str) -> None:
    config = GrammarRewrite(train_wordings=4, dev_wordings=6, test_wordings=10)
    rows = read_rows(rewrite_task(tmp_path, config, FormatTask(train=8, dev=12, test=30)), split)
    assert all(row["messages"][-2]["content"].endswith(row["wording"]) for row in rows)
    counts = {wording: sum(row["wording"] == wording for row in rows) for wording in {row["wording"] for row in rows}}
    assert set(counts.values()) == {len(rows) // (6 if split == "dev" else 10)}
    assert {row["document"] for row in rows} == {None}


def test_training_rows_are_as_all_examples_are(tmp_path: Path) -> None:
    config = GrammarRewrite(train_wordings=4, dev_wordings=6, test_wordings=10)
    rows = read_rows(rewrite_task(tmp_path, config, FormatTask(train=8, dev=12, test=30)), "train")
    assert set(rows[0]) == {"example_id", "group", "messages", "label"}


@pytest.mark.parametrize("wordings", [4, 5, 10])
@pytest.mark.parametrize("split", ["train", "test"])
def test_no_wording_leaks_the_label(tmp_path: Path, wordings: int, split: str) -> None:
    config = GrammarRewrite(train_wordings=wordings, dev_wordings=6, test_wordings=wordings)
    rows = read_rows(rewrite_task(tmp_path, config, FormatTask(train=20, dev=12, test=20)), split)
    wordings_used = {row["messages"][-2]["content"].rpartition("\n")[2] for row in rows}
    labels = {wording: {row["label"] for row in rows if row["messages"][-2]["content"].endswith(wording)} for wording in wordings_used}
    assert len(labels) == wordings and all(each == {"yes", "no"} for each in labels.values())


@pytest.mark.parametrize("config", [NoRewrite(), GrammarRewrite(train_wordings=4, dev_wordings=6, test_wordings=1)])
def test_under_one_wording_no_row_records_it(tmp_path: Path, config: GrammarRewrite | NoRewrite) -> None:
    rows = read_rows(rewrite_task(tmp_path, config, FormatTask(train=8, dev=12, test=30)), "test")
    assert {row["wording"] for row in rows} == {None}


def test_sentences_keep_their_document(tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_text("\n".join(f'{{"is": "eitt {n}\\ntvö {n}", "en": "one {n}\\ntwo {n}"}}' for n in range(20)))
    pairs = {"kind": "file", "path": file, "source": "is", "target": "en", "unit": "line"}
    task = TranslationTask.model_validate(
        {"kind": "translation", "source_language": "Icelandic", "target_language": "English", "pairs": pairs, "train": 8, "test": 12}
    )
    rows = read_rows(rewrite_task(tmp_path, NoRewrite(), task), "test")
    documents = {row["document"]: row["messages"][-1]["content"].split()[1] for row in rows}
    assert len(documents) == 6, "two sentences each"
    assert all(row["messages"][-1]["content"].endswith(documents[row["document"]]) for row in rows)
