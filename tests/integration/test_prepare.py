"""Preparation of training data: rows that are too long, and a mixture of which no row is left."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from training_runs import CONFIG, train

from delia_ray.core.artifacts import Artifact
from delia_ray.core.errors import UserError
from delia_ray.models import load_tokenizer
from delia_ray.training.data.corpus import Corpus
from delia_ray.training.data.prepare import prepare_corpus
from delia_ray.training.data.tokens import tokenize


def test_a_row_that_is_too_long_is_refused_by_its_id(local_ray: None, base: Artifact, mixed: Artifact, tmp_path: Path):
    with pytest.raises(UserError, match=r"row (task|diverse)-\d has \d+ tokens, more than finetune\.max_seq_len=16"):
        train(base, mixed, tmp_path / "checkpoint", CONFIG.model_copy(update={"max_seq_len": 16}))
    assert not (tmp_path / "checkpoint").exists()


@pytest.mark.parametrize(
    ("long_rows", "limit", "counts"),
    [
        ("truncate", 60, {"rows": 16, "truncated": 6}),
        ("truncate", 45, {"rows": 8, "truncated": 2}),  # of the other eight no answer would be left
        ("drop", 60, {"rows": 10, "truncated": 0}),
    ],
)
def test_rows_that_are_too_long_are_cut_or_left_out_and_counted(
    local_ray: None, base: Artifact, mixed: Artifact, tmp_path: Path, long_rows: str, limit: int, counts: dict[str, int]
):
    config = CONFIG.model_copy(update={"max_seq_len": limit, "long_rows": long_rows})
    assert prepare_corpus(mixed.data, base.data, (), config, tmp_path / "corpus") == counts
    corpus = Corpus(tmp_path / "corpus")
    whole = tokenize(load_tokenizer(base.data), pq.read_table(mixed.data).sort_by("order_key").to_pylist(), "answer")  # pyright: ignore[reportArgumentType]
    kept = [row for row in whole if (any(row.kinds[1:limit]) if long_rows == "truncate" else len(row.ids) <= limit)]
    assert [list(corpus[index].ids) for index in range(len(corpus))] == [row.ids[:limit] for row in kept]


@pytest.mark.parametrize("long_rows", ["truncate", "drop"])
def test_a_mixture_of_which_no_answer_is_left_is_refused(local_ray: None, base: Artifact, mixed: Artifact, tmp_path: Path, long_rows: str):
    config = CONFIG.model_copy(update={"max_seq_len": 12, "long_rows": long_rows})
    with pytest.raises(UserError, match=r"finetune\.max_seq_len: no row is left, .* within 12 tokens; raise it"):
        prepare_corpus(mixed.data, base.data, (), config, tmp_path / "corpus")
    assert not (tmp_path / "corpus").exists()
