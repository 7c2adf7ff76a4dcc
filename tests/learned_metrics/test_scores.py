"""COMET and BLEURT on tiny checkpoints, each in a separate Python environment: `make test-plugins`."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from delia_ray.core.errors import UserError
from delia_ray.learned_metrics.config import Bleurt, Comet, LearnedMetrics
from delia_ray.learned_metrics.stage import compute_learned_scores
from delia_ray.placement import Cluster, LearnedMetricWorkers
from delia_ray.ray_runtime.cluster import connect

pytestmark = pytest.mark.plugins

THIS_FILE = Path(__file__)
PYTHON = THIS_FILE.parents[2] / ".venv-learned-metrics/bin/python"
WORKERS = LearnedMetricWorkers(runtime_env={"py_executable": str(PYTHON)}, batch_rows=2)
ROWS = [
    ("hundur er hér .", "the dog is here .", "a dog is here ."),
    ("kisa er þar .", "the cat was there .", "a cat is there ."),
    ("hér er kisa .", "", "here is a cat ."),
]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("weights")
    subprocess.run([PYTHON, THIS_FILE.with_name("make_tiny.py"), folder], check=True)
    return folder


@pytest.fixture(scope="module")
def learned_metrics(weights: Path) -> LearnedMetrics:
    comet = Comet(checkpoint=weights / "comet/checkpoints/model.ckpt", encoder=weights / "encoder")
    return LearnedMetrics(comet=comet, bleurt=Bleurt(weights=weights / "bleurt"))


@pytest.fixture(scope="module", autouse=True)
def local_ray() -> Iterator[None]:
    connect(Cluster())
    yield
    ray.shutdown()


def test_every_row_gets_a_score_of_its_own_and_the_same_one_again(learned_metrics: LearnedMetrics):
    names = ("chrf", "comet", "bleurt")
    scores = compute_learned_scores(names, learned_metrics, ROWS, WORKERS)
    assert list(scores) == ["comet", "bleurt"]
    reversed_scores = compute_learned_scores(names, learned_metrics, ROWS[::-1], WORKERS)
    for name, scores_N in scores.items():
        assert len(set(scores_N.tolist())) == len(ROWS)
        assert reversed_scores[name][::-1] == pytest.approx(scores_N, abs=1e-5)


def test_only_comet_reads_the_source(learned_metrics: LearnedMetrics):
    other_sources = [("kisa .", output, reference) for _, output, reference in ROWS]
    before, after = (compute_learned_scores(("comet", "bleurt"), learned_metrics, rows, WORKERS) for rows in (ROWS, other_sources))
    assert abs(before["comet"] - after["comet"]).max() > 1e-6
    assert after["bleurt"] == pytest.approx(before["bleurt"], abs=1e-6)


def test_an_encoder_that_is_nowhere_is_one_line(learned_metrics: LearnedMetrics):
    assert learned_metrics.comet is not None
    without_encoder = LearnedMetrics(comet=learned_metrics.comet.model_copy(update={"encoder": None}))
    with pytest.raises(UserError, match=r"learned_metrics\.comet: it stopped with .*encoder-that-is-not-here"):
        compute_learned_scores(("comet",), without_encoder, ROWS, WORKERS)


def test_an_environment_without_the_package_is_one_line(learned_metrics: LearnedMetrics):
    with pytest.raises(UserError, match=r"learned_metrics\.bleurt: it stopped with .*No module named 'bleurt_pytorch'"):
        compute_learned_scores(("bleurt",), learned_metrics, ROWS, LearnedMetricWorkers(runtime_env={"env_vars": {"X": "1"}}))
