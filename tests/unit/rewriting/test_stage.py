"""What scored rows share with each other is kept with them."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from delia_ray.artifacts import Artifact, Provenance
from delia_ray.rewriting.config import GrammarRewrite, NoRewrite
from delia_ray.rewriting.stage import rewrite
from delia_ray.tasks.config import FormatTask, TranslationTask
from delia_ray.tasks.stage import prepare_task

ORIGIN = Provenance(None, ["pytest"])


def rows(artifact: Artifact, split: str) -> list[dict[str, Any]]:
    return pq.read_table(artifact.data / f"{split}.parquet").to_pylist()


def worded(folder: Path, config: GrammarRewrite | NoRewrite, task: FormatTask | TranslationTask) -> Artifact:
    given = prepare_task(task, None, folder / "task", ORIGIN)
    return rewrite(config, given, task.token, (), lambda prompt, seed: "", folder / "rewritten", ORIGIN)


@pytest.mark.parametrize("split", ["dev", "test"])
def test_every_scored_row_names_the_wording_it_shares_with_others(tmp_path: Path, split: str) -> None:
    config = GrammarRewrite(train_wordings=4, dev_wordings=6, test_wordings=10)
    found = rows(worded(tmp_path, config, FormatTask(train=8, dev=12, test=30)), split)
    assert all(row["messages"][-2]["content"].endswith(row["wording"]) for row in found)
    counts = {wording: sum(row["wording"] == wording for row in found) for wording in {row["wording"] for row in found}}
    assert set(counts.values()) == {len(found) // (6 if split == "dev" else 10)}
    assert {row["document"] for row in found} == {None}


def test_training_rows_are_as_all_examples_are(tmp_path: Path) -> None:
    config = GrammarRewrite(train_wordings=4, dev_wordings=6, test_wordings=10)
    found = rows(worded(tmp_path, config, FormatTask(train=8, dev=12, test=30)), "train")
    assert set(found[0]) == {"example_id", "group", "messages", "label"}


@pytest.mark.parametrize("wordings", [4, 5, 10])
@pytest.mark.parametrize("split", ["train", "test"])
def test_no_wording_gives_the_label_away(tmp_path: Path, wordings: int, split: str) -> None:
    config = GrammarRewrite(train_wordings=wordings, dev_wordings=6, test_wordings=wordings)
    found = rows(worded(tmp_path, config, FormatTask(train=20, dev=12, test=20)), split)
    asked = {row["messages"][-2]["content"].rpartition("\n")[2] for row in found}
    labels = {wording: {row["label"] for row in found if row["messages"][-2]["content"].endswith(wording)} for wording in asked}
    assert len(labels) == wordings and all(each == {"yes", "no"} for each in labels.values())


@pytest.mark.parametrize("config", [NoRewrite(), GrammarRewrite(train_wordings=4, dev_wordings=6, test_wordings=1)])
def test_under_one_wording_every_row_stands_alone(tmp_path: Path, config: GrammarRewrite | NoRewrite) -> None:
    found = rows(worded(tmp_path, config, FormatTask(train=8, dev=12, test=30)), "test")
    assert {row["wording"] for row in found} == {None}


def test_sentences_keep_their_document(tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_text("\n".join(f'{{"is": "eitt {n}\\ntvö {n}", "en": "one {n}\\ntwo {n}"}}' for n in range(20)))
    pairs = {"kind": "file", "path": file, "source": "is", "target": "en", "unit": "line"}
    task = TranslationTask.model_validate(
        {"kind": "translation", "source_language": "Icelandic", "target_language": "English", "pairs": pairs, "train": 8, "test": 12}
    )
    found = rows(worded(tmp_path, NoRewrite(), task), "test")
    documents = {row["document"]: row["messages"][-1]["content"].split()[1] for row in found}
    assert len(documents) == 6, "two sentences each"
    assert all(row["messages"][-1]["content"].endswith(documents[row["document"]]) for row in found)
