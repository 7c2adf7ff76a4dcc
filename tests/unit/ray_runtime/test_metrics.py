"""A run's metrics where Ray does not run, and what stages are called in them."""

import subprocess
import sys

import pytest

from delia_ray.core.progress import SilentProgress
from delia_ray.ray_runtime.metrics import UNLABELED, Labels, current_labels
from delia_ray.ray_runtime.stages import meter

WITHOUT_RAY = """
import sys
from delia_ray.ray_runtime.metrics import METRICS, UNLABELED, record

for name in METRICS:
    record(name, 1, UNLABELED)
assert "ray" not in sys.modules
"""


def test_nothing_is_imported_or_recorded_where_ray_does_not_run():
    subprocess.run([sys.executable, "-c", WITHOUT_RAY], check=True, timeout=60)


@pytest.mark.parametrize(
    ("name", "arm", "labels"),
    [
        ("queries", "", Labels("cats", "queries")),
        ("finetune sft", "sft", Labels("cats", "finetune", "sft")),
        ("score delia on dev", "delia", Labels("cats", "score on dev", "delia")),
        ("probe tokens", "", Labels("cats", "probe tokens")),
    ],
)
def test_a_stage_has_the_name_that_it_has_on_the_terminal_without_its_arm(name: str, arm: str, labels: Labels):
    progress = meter(SilentProgress(), "cats")
    assert meter(progress, "cats") is progress
    with progress.stage(name, arm):
        assert current_labels() == labels
        with progress.stage("nodes"):
            assert current_labels() == Labels("cats", "nodes")
        assert current_labels() == labels
    assert current_labels() == UNLABELED
