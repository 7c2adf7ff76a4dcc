from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from delia_ray.core.artifacts import Artifact, Counts, Provenance, Workspace, build_once
from delia_ray.core.config import Config
from delia_ray.evaluation.config import ScoreConfig
from delia_ray.evaluation.scoring import GenerationRow
from delia_ray.evaluation.stored import SCORES_KIND, write_scores
from delia_ray.pipeline.reproduce.compare import ArtifactComparison, compare, compare_data

ROWS = [{"id": "a", "order_key": 1}, {"id": "b", "order_key": 2}, {"id": "c", "order_key": 3}]


class Wish(Config):
    seed: int = 0
    kind: str = "grammar"


def table(place: Path, rows: Sequence[Mapping[str, object]], compression: str = "snappy") -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows)), place, compression=compression)


def build(
    place: Path,
    stage: str,
    rows: Sequence[Mapping[str, object]],
    request: Wish | None = None,
    compression: str = "snappy",
    **inputs: Artifact,
) -> Artifact:
    def write(workspace: Workspace) -> Counts:
        table(workspace.data / "train.parquet", rows, compression)
        return {"rows": len(rows)}

    origin = Provenance(None, ["pytest"])
    return build_once(place, stage=stage, kind="rows/1", request=request or Wish(), inputs=inputs, provenance=origin, write=write)


def small_run(
    run: Path, answer: str = "x", mixed: Sequence[Mapping[str, object]] = ROWS, seed: int = 0, compression: str = "snappy"
) -> Path:
    task = build(run / "task", "task/2", ROWS, Wish(seed=seed), compression)
    rewritten = build(run / "rewritten", "rewritten/1", ROWS, task=task)
    diverse = build(run / "diverse", "answers/1", [{"answer": answer}])
    build(run / "arms" / "sft" / "mixed", "mixed/2", ROWS, Wish(seed=9), rewritten=rewritten)
    build(run / "arms" / "delia" / "mixed", "mixed/2", mixed, rewritten=rewritten, diverse=diverse)
    return run


def compare_by_path(run: Path, rebuilt: Path, role: str = "arms/delia/mixed") -> dict[str, ArtifactComparison]:
    return {comparison.path: comparison for comparison in compare(run, rebuilt, role)}


def failing(found: Mapping[str, ArtifactComparison]) -> list[str]:
    return [path for path, comparison in found.items() if comparison.fails]


def test_what_comes_out_the_same_is_said_of_the_artifact_and_of_all_it_was_made_from_and_of_nothing_else(tmp_path: Path):
    found = compare_by_path(small_run(tmp_path / "a"), small_run(tmp_path / "b"))
    assert sorted(found) == ["arms/delia/mixed", "diverse", "rewritten", "task"]
    assert {comparison.data for comparison in found.values()} == {"same bytes"} and not failing(found)
    assert list(found).index("task") < list(found).index("rewritten") < list(found).index("arms/delia/mixed")


def test_the_same_rows_in_other_bytes_are_a_reproduction(tmp_path: Path):
    found = compare_by_path(small_run(tmp_path / "a"), small_run(tmp_path / "b", compression="gzip"))
    assert found["task"].data == "same rows" and not failing(found)


def test_another_request_is_named_by_its_field_and_fails(tmp_path: Path):
    found = compare_by_path(small_run(tmp_path / "a"), small_run(tmp_path / "b", seed=4))
    assert "request.seed: 0 -> 4" in str(found["task"])
    assert failing(found)[0] == "task"


def test_rows_that_follow_from_their_inputs_must_be_the_same(tmp_path: Path):
    found = compare_by_path(small_run(tmp_path / "a"), small_run(tmp_path / "b", mixed=ROWS[:2]))
    assert failing(found) == ["arms/delia/mixed"]


def test_generated_rows_may_differ_and_so_may_what_is_mixed_from_them(tmp_path: Path):
    found = compare_by_path(small_run(tmp_path / "a"), small_run(tmp_path / "b", answer="y", mixed=ROWS[:2]))
    assert (found["diverse"].data, found["arms/delia/mixed"].data) == ("other bytes", "other bytes")
    assert not failing(found)


def test_wordings_of_a_model_may_differ_and_those_of_the_grammar_may_not(tmp_path: Path):
    for kind in ("model", "grammar"):
        for name, rows in (("a", ROWS), ("b", ROWS[:1])):
            build(tmp_path / kind / name / "rewritten", "rewritten/1", rows, Wish(kind=kind))
        found = compare_by_path(tmp_path / kind / "a", tmp_path / kind / "b", "rewritten")
        assert failing(found) == ([] if kind == "model" else ["rewritten"])


def test_an_artifact_that_did_not_come_about_again_fails(tmp_path: Path):
    small_run(tmp_path / "a")
    build(tmp_path / "b" / "task", "task/2", ROWS)
    assert compare_by_path(tmp_path / "a", tmp_path / "b", "rewritten")["rewritten"].data == "not built"
    assert failing(compare_by_path(tmp_path / "a", tmp_path / "b", "rewritten")) == ["rewritten"]


@pytest.mark.parametrize(
    ("shards", "expected"),
    [([ROWS[:2], ROWS[2:]], "same bytes"), ([ROWS], "same rows"), ([ROWS[2:], ROWS[:2]], "same rows"), ([ROWS[:2]], "other bytes")],
    ids=["as they were", "in one", "in another order", "one missing"],
)
def test_shards_are_the_same_under_any_names_and_cuts(shards: list[list[dict[str, object]]], expected: str, tmp_path: Path):
    for name, parts in (("a", [ROWS[:2], ROWS[2:]]), ("b", shards)):
        for number, part in enumerate(parts):
            table(tmp_path / name / "kept" / f"{name}-{number}.parquet", part)
    assert compare_data(tmp_path / "a", tmp_path / "b") == expected


def test_another_order_in_a_file_of_the_same_name_is_not_the_same(tmp_path: Path):
    table(tmp_path / "a" / "train.parquet", ROWS)
    table(tmp_path / "b" / "train.parquet", ROWS[::-1])
    assert compare_data(tmp_path / "a", tmp_path / "b") == "other bytes"


def test_other_words_beside_equal_rows_are_not_the_same(tmp_path: Path):
    for name in ("a", "b"):
        table(tmp_path / name / "train.parquet", ROWS)
        (tmp_path / name / "wordings.json").write_text(name)
    assert compare_data(tmp_path / "a", tmp_path / "b") == "other bytes"


def _scores(place: Path, exact: Sequence[float]) -> Artifact:
    def write(workspace: Workspace) -> Counts:
        rows = [
            GenerationRow(
                prompt_id=str(index), probe="test", messages=[], label=None, expected="", wording=None, document=None, answer="",
                unchanged=None, kl_sum=None, tokens=None,
            )
            for index in range(len(exact))
        ]  # fmt: skip
        scored = {"exact_match": np.array(exact), "contained": np.ones(len(exact))}
        return write_scores(rows, scored, ScoreConfig(resamples=1000), workspace.data)

    origin = Provenance(None, ["pytest"])
    return build_once(place, stage="scores/2", kind=SCORES_KIND, request=Wish(), inputs={}, provenance=origin, write=write)


def test_of_scores_the_metric_that_differs_most_is_named_with_how_much(tmp_path: Path):
    _scores(tmp_path / "a" / "scores", [1.0, 1.0, 0.0, 0.0])
    _scores(tmp_path / "b" / "scores", [1.0, 0.0, 0.0, 0.0])
    found = compare_by_path(tmp_path / "a", tmp_path / "b", "scores")["scores"]
    assert found.metric == ("exact_match", 0.25)
    assert found.data == "other bytes" and not found.fails
