"""What a run's manifests tell of each other, also where a folder of the chain is gone."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from delia_ray.artifacts import Adopted, Artifact, Input, Provenance, StaleArtifactError, build_once
from delia_ray.config import Config
from delia_ray.errors import UserError
from delia_ray.lineage import broken, made_from, show
from delia_ray.records import QUERY_KIND
from delia_ray.synthesis.resize import make_way

MODEL = Adopted(Path("model"), "0" * 16)
CHAIN = {
    "diverse": ("diverse/2", "queries"),
    "arms/it/mixed": ("mixed/2", "diverse"),
    "arms/it/checkpoint": ("checkpoint/2", "arms/it/mixed"),
    "arms/it/model": ("model/2", "arms/it/checkpoint"),
    "arms/it/scores": ("scores/3", "arms/it/model"),
    "report": ("report/3", "arms/it/scores"),
}


class Asked(Config):
    rows: int = 4
    temperature: float = 1.0


def built(path: Path, stage: str, request: Config, inputs: Mapping[str, Input]) -> Artifact:
    path.parent.mkdir(parents=True, exist_ok=True)
    return build_once(
        path, stage=stage, kind=QUERY_KIND, request=request, inputs=inputs, provenance=Provenance(None, []), write=lambda workspace: {}
    )


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run in which each artifact is made from the one before it, up to the report."""
    found = {"queries": built(tmp_path / "queries", "queries/2", Asked(), {"model": MODEL})}
    for path, (stage, origin) in CHAIN.items():
        found[path] = built(tmp_path / path, stage, Asked(), {origin.rpartition("/")[2]: found[origin]})
    return tmp_path


def cut(run: Path, *paths: str) -> None:
    for path in paths:
        shutil.rmtree(run / path)


def test_everything_that_came_of_an_artifact_is_found_at_whatever_remove(run: Path):
    queries = Artifact.open(run / "queries", QUERY_KIND)
    assert list(made_from(run, queries.fingerprint)) == list(CHAIN)


def test_a_whole_chain_has_no_gap_and_a_model_from_outside_is_none(run: Path):
    assert broken(run) == []


@pytest.mark.parametrize(
    ("gone", "orphans"),
    [
        (["diverse"], ["arms/it/mixed"]),
        (["arms/it/mixed"], ["arms/it/checkpoint"]),
        (["arms/it/checkpoint"], ["arms/it/model"]),
        (["arms/it/model"], ["arms/it/scores"]),
        (["arms/it/mixed", "arms/it/model"], ["arms/it/checkpoint", "arms/it/scores"]),
        (["arms/it/scores"], ["report"]),
        (["report"], []),
    ],
)
def test_what_lost_its_origin_is_named(run: Path, gone: list[str], orphans: list[str]):
    cut(run, *gone)
    assert broken(run) == orphans


def ask_for(run: Path, **request: float) -> None:
    make_way(run / "queries", run, "queries/2", Asked.model_validate(request), {"model": MODEL})


def test_queries_that_nothing_was_trained_on_make_way_for_more_of_them(run: Path):
    cut(run, "arms", "report")
    ask_for(run, rows=8)
    assert not (run / "queries").exists() and not (run / "diverse").exists()


@pytest.mark.parametrize("request_", [{"rows": 4}, {"rows": 4, "temperature": 0.5}, {"rows": 8, "temperature": 0.5}])
def test_queries_stay_unless_their_number_alone_is_another(run: Path, request_: dict[str, float]):
    cut(run, "arms", "report")
    ask_for(run, **request_)
    assert (run / "queries").exists() and (run / "diverse").exists()


@pytest.mark.parametrize(
    "gone", [[], ["diverse"], ["arms/it/mixed"], ["diverse", "arms/it/mixed"], ["arms/it/mixed", "arms/it/checkpoint"]]
)
def test_queries_stay_under_what_was_trained_on_them_even_where_a_folder_between_is_gone(run: Path, gone: list[str]):
    cut(run, *gone)
    with pytest.raises(StaleArtifactError, match=r"request\.rows: 4 -> 8.*arms/it/.* was made from it, or may have been.*run\.name="):
        ask_for(run, rows=8)
    assert (run / "queries").exists() and (run / "arms/it/scores").exists()


def test_queries_stay_under_a_report_whose_models_are_gone(run: Path):
    cut(run, "arms")
    with pytest.raises(StaleArtifactError, match="report was made from it, or may have been"):
        ask_for(run, rows=8)


def test_show_says_of_each_artifact_what_it_was_made_from(run: Path):
    lines = list(show(run))
    assert [line.split()[0] for line in lines] == ["queries", *CHAIN]
    assert "(from outside)" in lines[0] and lines[1].endswith("(queries)")


def test_a_run_without_artifacts_is_refused_with_the_verb_that_makes_them(tmp_path: Path):
    with pytest.raises(UserError, match="delia run"):
        list(show(tmp_path))
