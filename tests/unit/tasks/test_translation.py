import json
import urllib.request
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sacrebleu.dataset import DATASETS

from delia_ray.core.errors import UserError
from delia_ray.core.fingerprint import hash_file
from delia_ray.core.records import TaskItem
from delia_ray.rewriting.forbidden import list_forbidden_words
from delia_ray.tasks.config import FilePairs, SacrebleuPairs, TranslationTask
from delia_ray.tasks.parallel_text import find_pair_files, read_pairs
from delia_ray.tasks.translation import build_translation_items

DOCUMENTS = [[(f"lína {d} {n}", f"line {d} {n}") for n in range(3 + d % 4)] for d in range(40)]


def task(pairs: dict[str, Any], **overrides: Any) -> TranslationTask:
    fields = {"kind": "translation", "source_language": "Icelandic", "target_language": "English", "pairs": pairs, **overrides}
    return TranslationTask.model_validate(fields)


def write_documents(file: Path) -> dict[str, Any]:
    """Write the documents, each under a header line, as parallel JSONL; return the config of the pairs."""
    rows = [{"is": "\n".join(["head", *(one for one, _ in d)]), "en": "\n".join(["head", *(two for _, two in d)])} for d in DOCUMENTS]
    file.write_text("\n".join(json.dumps(row) for row in rows))
    return {"kind": "file", "path": file, "source": "is", "target": "en", "unit": "line", "skip_lines": 1}


def texts(items: list[TaskItem]) -> list[tuple[str, str]]:
    return [(item["messages"][0]["content"].split("\n\n")[1], item["messages"][1]["content"]) for item in items]


def document(text: str) -> int:
    return int(text.split()[1])


def test_every_item_has_an_instruction_a_text_and_its_translation(tmp_path: Path) -> None:
    items = build_translation_items(task(write_documents(tmp_path / "d.jsonl"), train=8, dev=4, test=9))
    assert {split: len(rows) for split, rows in items.items()} == {"train": 8, "dev": 4, "test": 9}
    for item in (item for rows in items.values() for item in rows):
        user, assistant = item["messages"]
        assert item["instruction"] == "Translate this text from Icelandic into English."
        source = user["content"].removeprefix(f"{item['instruction']}\n\n")
        assert assistant["content"] == source.replace("lína", "line")
    names = [item["example_id"] for rows in items.values() for item in rows]
    assert len(set(names)) == len(names)


def test_no_document_is_in_two_splits(tmp_path: Path) -> None:
    items = build_translation_items(task(write_documents(tmp_path / "d.jsonl"), train=60, dev=10, test=30))
    documents = {split: {document(source) for source, _ in texts(rows)} for split, rows in items.items()}
    assert (
        not documents["train"] & documents["test"]
        and not documents["train"] & documents["dev"]
        and not documents["dev"] & documents["test"]
    )
    assert len(documents["train"]) > 15, "training pairs come from many documents"


def test_a_larger_training_split_contains_a_smaller_one_and_keeps_the_test_split(tmp_path: Path) -> None:
    pairs = write_documents(tmp_path / "d.jsonl")
    few, many = (build_translation_items(task(pairs, train=n, test=20)) for n in (10, 40))
    assert many["train"][:10] == few["train"]
    assert many["test"] == few["test"]


def test_the_splits_depend_only_on_the_seed(tmp_path: Path) -> None:
    pairs = write_documents(tmp_path / "d.jsonl")
    (tmp_path / "elsewhere").mkdir()
    moved = write_documents(tmp_path / "elsewhere" / "other.jsonl")
    one, again, other = (build_translation_items(task(p, train=20, test=20, seed=seed)) for p, seed in ((pairs, 0), (moved, 0), (pairs, 1)))
    assert one == again
    assert texts(one["test"]) != texts(other["test"])


def test_splits_from_files_and_null_takes_all_pairs_in_order(tmp_path: Path) -> None:
    (tmp_path / "train.tsv").write_text("".join(f"a{n}\tb{n}\n" for n in range(20)))
    (tmp_path / "dev.tsv").write_text("c\td\n")
    (tmp_path / "test.tsv").write_text("".join(f'"x{n}\ty" {n}\n' for n in range(7)))
    files = {name: {"kind": "file", "path": tmp_path / f"{name}.tsv"} for name in ("train", "dev", "test")}
    items = build_translation_items(task(files["train"], dev_pairs=files["dev"], test_pairs=files["test"], train=20, dev=1, test=None))
    assert texts(items["test"]) == [(f'"x{n}', f'y" {n}') for n in range(7)]
    assert sorted(texts(items["train"])) == sorted((f"a{n}", f"b{n}") for n in range(20))
    assert texts(items["dev"]) == [("c", "d")]


@pytest.mark.parametrize(
    ("name", "content", "fields"),
    [
        ("p.jsonl", '{"source": "góðan dag", "target": "good day"}\n', {}),
        ("p.jsonl", '{"translation": {"is": "góðan dag", "en": "good day"}}\n', {"source": "translation.is", "target": "translation.en"}),
        ("p.csv", "target,source\ngood day,góðan dag\n", {}),
        ("p.tsv", "góðan dag\tgood day\n", {}),
        ("p.tsv", "good day\t7\tgóðan dag\r\n\r\n", {"source": "3", "target": "1"}),
    ],
)
def test_all_file_formats_give_the_same_pair(tmp_path: Path, name: str, content: str, fields: dict[str, str]) -> None:
    (tmp_path / name).write_bytes(content.encode())
    (pair,) = read_pairs(FilePairs.model_validate({"kind": "file", "path": tmp_path / name, **fields}), "task.pairs")
    assert (pair.source, pair.target) == ("góðan dag", "good day")


def test_parquet_files_are_supported(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist([{"translation": {"is": "já", "en": "yes"}}]), tmp_path / "p.parquet")
    pairs = FilePairs(kind="file", path=tmp_path / "p.parquet", source="translation.is", target="translation.en")
    assert [(pair.source, pair.target) for pair in read_pairs(pairs, "task.pairs")] == [("já", "yes")]


@pytest.mark.parametrize(
    ("content", "fields", "message"),
    [
        ('{"source": "a"}', {}, r"line 1: 'target' is None.*the row has source, and `target` selects one"),
        ('{"source": "a", "target": 3}', {}, "'target' is 3"),
        ('{"source": "a", "target": " "}', {}, "must be a text that is not empty"),
        ("not json", {}, "line 1: not valid JSON"),
        ('{"a": {"b": "x"}, "target": "y"}', {"source": "a.c"}, r"'a\.c' is None"),
        ('{"source": "a\\nb", "target": "c"}', {"unit": "line"}, "the text has 2 lines and its translation 1"),
        ('{"source": "a\\nb", "target": "c"}', {"skip_lines": 1}, "the source or target is empty after skip_lines=1"),
        ("", {}, "holds no pairs"),
    ],
)
def test_an_invalid_pair_is_refused(tmp_path: Path, content: str, fields: dict[str, Any], message: str) -> None:
    (tmp_path / "p.jsonl").write_text(content)
    with pytest.raises(UserError, match=message) as caught:
        read_pairs(FilePairs.model_validate({"kind": "file", "path": tmp_path / "p.jsonl", **fields}), "task.pairs")
    assert "task.pairs: " in str(caught.value) and "\n" not in str(caught.value)


def test_an_unreadable_tsv_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"task\.pairs: .*none\.tsv: No such file"):
        read_pairs(FilePairs(kind="file", path=tmp_path / "none.tsv"), "task.pairs")
    (tmp_path / "latin.tsv").write_bytes("já\tyes\n".encode("latin-1"))
    with pytest.raises(UserError, match="is not UTF-8"):
        read_pairs(FilePairs(kind="file", path=tmp_path / "latin.tsv"), "task.pairs")


def test_more_pairs_than_available_are_refused_with_the_available_number(tmp_path: Path) -> None:
    pairs = write_documents(tmp_path / "d.jsonl")
    with pytest.raises(UserError, match=r"task\.train: 1000 pairs are required, and task\.pairs has \d+ left for it; ask for fewer"):
        build_translation_items(task(pairs, train=1000, test=20))
    with pytest.raises(UserError, match=r"task\.test: 100 pairs.*of at most task\.max_words=2 words"):
        build_translation_items(task(pairs, train=1, test=100, max_words=2))


def test_pairs_above_max_words_are_dropped(tmp_path: Path) -> None:
    (tmp_path / "p.tsv").write_text("a b\tc d\na\tb c d\na b c\td\na\tb\n")
    items = build_translation_items(task({"kind": "file", "path": tmp_path / "p.tsv"}, train=1, test=1, max_words=2))
    assert sorted(texts(items["train"] + items["test"])) == [("a", "b"), ("a b", "c d")]


def test_words_of_the_task_are_forbidden_if_a_token_replaces_the_instruction(tmp_path: Path) -> None:
    pairs = write_documents(tmp_path / "d.jsonl")
    assert {"translate", "Icelandic", "English"} <= set(list_forbidden_words(task(pairs, token="<is>")))
    assert list_forbidden_words(task(pairs)) == ()


WMT = """<?xml version='1.0' encoding='utf-8'?>
<dataset id="newstest2021"><collection id="general">
<doc id="one" origlang="is"><src lang="is"><p><seg id="1">Halló  heimur.</seg><seg id="2">Já.</seg></p></src>
<ref lang="en" translator="A"><p><seg id="1">Hello world.</seg><seg id="2">Yes.</seg></p></ref></doc>
<doc id="two" origlang="is"><src lang="is"><p><seg id="1">Nei.</seg></p></src>
<ref lang="en" translator="A"><p><seg id="1">No.</seg></p></ref></doc>
</collection></dataset>
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty sacreBLEU cache for wmt21, without a network."""

    def unreachable(*_: object) -> None:
        raise OSError("Network is unreachable")

    monkeypatch.setattr(urllib.request, "urlopen", unreachable)
    monkeypatch.setattr(DATASETS["wmt21"], "_outdir", str(tmp_path / "wmt21"))
    monkeypatch.setattr(DATASETS["wmt21"], "_rawdir", str(tmp_path / "wmt21" / "raw"))
    return tmp_path / "wmt21"


def test_a_cached_test_set_is_read_with_its_documents(cache: Path) -> None:
    (cache / "raw" / "test").mkdir(parents=True)
    (cache / "raw" / "wmt21.test.tgz").write_text("downloaded and unpacked")
    (cache / "raw" / "test" / "newstest2021.is-en.xml").write_text(WMT)
    config = SacrebleuPairs(kind="sacrebleu", test_set="wmt21", langpair="is-en")
    pairs = read_pairs(config, "task.pairs")
    assert [(pair.document, pair.source, pair.target) for pair in pairs] == [
        ("one", "Halló heimur.", "Hello world."),
        ("one", "Já.", "Yes."),
        ("two", "Nei.", "No."),
    ]
    assert all(hash_file(file) for file in find_pair_files(config, "task.pairs"))
    items = build_translation_items(task(config.model_dump(), test_pairs=config.model_dump(), train=3, test=None))
    assert [target for _, target in texts(items["test"])] == ["Hello world.", "Yes.", "No."]


def test_a_test_set_that_cannot_be_downloaded_is_refused_with_a_file_to_use_instead(cache: Path) -> None:
    with pytest.raises(UserError) as caught:
        read_pairs(SacrebleuPairs(kind="sacrebleu", test_set="wmt21", langpair="is-en"), "task.pairs")
    message = str(caught.value)
    assert "Network is unreachable" in message and str(cache) in message and "\n" not in message
    assert "sacrebleu -t wmt21 -l is-en --echo src ref > wmt21.is-en.tsv" in message
    assert "task.pairs={kind: file, path: wmt21.is-en.tsv}" in message


@pytest.mark.parametrize(
    ("test_set", "langpair", "message"),
    [
        ("wmt2021", "is-en", r"task\.pairs\.test_set: sacreBLEU has no 'wmt2021'; it has .*wmt21"),
        ("wmt21", "is-fr", r"task\.pairs\.langpair: wmt21 has no 'is-fr'; it has .*is-en"),
    ],
)
def test_an_unknown_test_set_or_language_pair_is_refused_with_the_known_ones(test_set: str, langpair: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_pairs(SacrebleuPairs(kind="sacrebleu", test_set=test_set, langpair=langpair), "task.pairs")


def test_two_letters_without_spaces_count_as_one_word(tmp_path: Path) -> None:
    pairs = [("It rains today.", "今天下雨。"), ("It rains more today.", "今天下雨下得很大很大。")]
    (tmp_path / "zh.jsonl").write_text("\n".join(json.dumps({"source": one, "target": two}) for one, two in pairs))
    config = {"kind": "file", "path": tmp_path / "zh.jsonl"}
    items = build_translation_items(task(config, target_language="Chinese", train=1, test=1, test_pairs=config, max_words=4))
    assert texts(items["train"]) == texts(items["test"]) == pairs[:1]
