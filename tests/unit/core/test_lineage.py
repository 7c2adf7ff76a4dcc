"""Lineage from a run's manifests, also where a folder of the chain was removed."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from delia_ray.core.artifacts import Adopted, Artifact, Input, Provenance, StaleArtifactError, build_once
from delia_ray.core.config import Config
from delia_ray.core.errors import UserError
from delia_ray.core.lineage import describe_artifacts, find_descendants, find_orphans
from delia_ray.core.records import QUERY_KIND
from delia_ray.synthesis.resize import retire_resized_queries

MODEL = Adopted(Path("model"), "0" * 16)
CHAIN = {
    "diverse": ("diverse/2", "queries"),
    "arms/sft/mixed": ("mixed/2", "diverse"),
    "arms/sft/checkpoint": ("checkpoint/2", "arms/sft/mixed"),
    "arms/sft/model": ("model/2", "arms/sft/checkpoint"),
    "arms/sft/scores": ("scores/3", "arms/sft/model"),
    "report": ("report/3", "arms/sft/scores"),
}


class Request(Config):
    rows: int = 4
    temperature: float = 1.0


def build(path: Path, stage: str, request: Config, inputs: Mapping[str, Input]) -> Artifact:
    path.parent.mkdir(parents=True, exist_ok=True)
    return build_once(
        path, stage=stage, kind=QUERY_KIND, request=request, inputs=inputs, provenance=Provenance(None, []), write=lambda workspace: {}
    )


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run in which each artifact is built from the previous one, up to the report."""
    artifacts = {"queries": build(tmp_path / "queries", "queries/2", Request(), {"model": MODEL})}
    for path, (stage, origin) in CHAIN.items():
        artifacts[path] = build(tmp_path / path, stage, Request(), {origin.rpartition("/")[2]: artifacts[origin]})
    return tmp_path


def remove(run: Path, *paths: str) -> None:
    for path in paths:
        shutil.rmtree(run / path)


def test_all_descendants_are_found(run: Path):
    queries = Artifact.open(run / "queries", QUERY_KIND)
    assert list(find_descendants(run, queries.fingerprint)) == list(CHAIN)


def test_a_complete_chain_has_no_orphans_and_an_external_model_is_not_missing(run: Path):
    assert find_orphans(run) == []


@pytest.mark.parametrize(
    ("removed", "orphans"),
    [
        (["diverse"], ["arms/sft/mixed"]),
        (["arms/sft/mixed"], ["arms/sft/checkpoint"]),
        (["arms/sft/checkpoint"], ["arms/sft/model"]),
        (["arms/sft/model"], ["arms/sft/scores"]),
        (["arms/sft/mixed", "arms/sft/model"], ["arms/sft/checkpoint", "arms/sft/scores"]),
        (["arms/sft/scores"], ["report"]),
        (["report"], []),
    ],
)
def test_artifacts_with_a_missing_input_are_named(run: Path, removed: list[str], orphans: list[str]):
    remove(run, *removed)
    assert find_orphans(run) == orphans


def request_queries(run: Path, **request: float) -> None:
    retire_resized_queries(run / "queries", run, "queries/2", Request.model_validate(request), {"model": MODEL})


def test_queries_are_removed_for_a_larger_number_if_no_model_was_trained_on_them(run: Path):
    remove(run, "arms", "report")
    request_queries(run, rows=8)
    assert not (run / "queries").exists() and not (run / "diverse").exists()


@pytest.mark.parametrize("request_", [{"rows": 4}, {"rows": 4, "temperature": 0.5}, {"rows": 8, "temperature": 0.5}])
def test_queries_stay_unless_only_their_number_differs(run: Path, request_: dict[str, float]):
    remove(run, "arms", "report")
    request_queries(run, **request_)
    assert (run / "queries").exists() and (run / "diverse").exists()


@pytest.mark.parametrize(
    "removed", [[], ["diverse"], ["arms/sft/mixed"], ["diverse", "arms/sft/mixed"], ["arms/sft/mixed", "arms/sft/checkpoint"]]
)
def test_queries_stay_if_a_model_was_trained_on_them_even_if_a_folder_between_was_removed(run: Path, removed: list[str]):
    remove(run, *removed)
    with pytest.raises(StaleArtifactError, match=r"request\.rows: 4 -> 8.*arms/sft/.* was made from it, or may have been.*run\.name="):
        request_queries(run, rows=8)
    assert (run / "queries").exists() and (run / "arms/sft/scores").exists()


def test_queries_stay_if_a_report_of_removed_models_exists(run: Path):
    remove(run, "arms")
    with pytest.raises(StaleArtifactError, match="report was made from it, or may have been"):
        request_queries(run, rows=8)


def test_each_artifact_is_listed_with_its_inputs(run: Path):
    lines = list(describe_artifacts(run))
    assert [line.split()[0] for line in lines] == ["queries", *CHAIN]
    assert "(from outside)" in lines[0] and lines[1].endswith("(queries)")


def test_a_run_without_artifacts_is_refused_with_the_verb_that_makes_them(tmp_path: Path):
    with pytest.raises(UserError, match="delia run"):
        list(describe_artifacts(tmp_path))
