"""COMET and BLEURT on tiny checkpoints, each in its own environment: `make test-plugins`."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from delia_ray.errors import UserError
from delia_ray.judging.config import Bleurt, Comet, Judges
from delia_ray.judging.stage import judge_rows
from delia_ray.placement import Cluster, JudgeWorkers
from delia_ray.runtime import connect

pytestmark = pytest.mark.plugins

HERE = Path(__file__)
PYTHON = HERE.parents[2] / ".venv-judges/bin/python"
HOW = JudgeWorkers(runtime_env={"py_executable": str(PYTHON)}, batch_rows=2)
ROWS = [
    ("hundur er hér .", "the dog is here .", "a dog is here ."),
    ("kisa er þar .", "the cat was there .", "a cat is there ."),
    ("hér er kisa .", "", "here is a cat ."),
]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    subprocess.run([PYTHON, HERE.with_name("make_tiny.py"), folder], check=True)
    return folder


@pytest.fixture(scope="module")
def judges(weights: Path) -> Judges:
    comet = Comet(checkpoint=weights / "comet/checkpoints/model.ckpt", encoder=weights / "encoder")
    return Judges(comet=comet, bleurt=Bleurt(weights=weights / "bleurt"))


@pytest.fixture(scope="module", autouse=True)
def local_ray() -> Iterator[None]:
    connect(Cluster())
    yield
    ray.shutdown()


def test_every_row_gets_a_score_of_its_own_and_the_same_one_again(judges: Judges):
    names = ("chrf", "comet", "bleurt")
    found = judge_rows(names, judges, ROWS, HOW)
    assert list(found) == ["comet", "bleurt"]
    again = judge_rows(names, judges, ROWS[::-1], HOW)
    for name, scores_N in found.items():
        assert len(set(scores_N.tolist())) == len(ROWS)
        assert again[name][::-1] == pytest.approx(scores_N, abs=1e-5)


def test_only_comet_reads_the_source(judges: Judges):
    other = [("kisa .", output, reference) for _, output, reference in ROWS]
    before, after = (judge_rows(("comet", "bleurt"), judges, rows, HOW) for rows in (ROWS, other))
    assert abs(before["comet"] - after["comet"]).max() > 1e-6
    assert after["bleurt"] == pytest.approx(before["bleurt"], abs=1e-6)


def test_an_encoder_that_is_nowhere_is_one_line(judges: Judges):
    assert judges.comet is not None
    alone = Judges(comet=judges.comet.model_copy(update={"encoder": None}))
    with pytest.raises(UserError, match=r"judges\.comet: it stopped with .*encoder-that-is-not-here"):
        judge_rows(("comet",), alone, ROWS, HOW)


def test_an_environment_without_the_package_is_one_line(judges: Judges):
    with pytest.raises(UserError, match=r"judges\.bleurt: it stopped with .*No module named 'bleurt_pytorch'"):
        judge_rows(("bleurt",), judges, ROWS, JudgeWorkers(runtime_env={"env_vars": {"X": "1"}}))
