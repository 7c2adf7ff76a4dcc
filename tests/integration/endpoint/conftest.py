from collections.abc import Iterator
from pathlib import Path

import pytest
from adapted_models import build_adapted
from served_runs import Served, serve
from training_runs import PROVENANCE, TOKEN

from delia_ray.core.artifacts import Artifact
from delia_ray.core.layout import RunLayout
from delia_ray.models import ModelFolder
from delia_ray.tasks.config import NoiseInit
from delia_ray.training.base_model import prepare_base


@pytest.fixture(scope="session")
def run(tiny_models: dict[str, Artifact], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a base model and the finished arms ``one`` and ``two``."""
    layout = RunLayout(tmp_path_factory.mktemp("served") / "run")
    model = ModelFolder(tiny_models["one"].data, tiny_models["one"].fingerprint)
    base = prepare_base(model, (TOKEN,), NoiseInit(), 1, layout.base, PROVENANCE)
    scratch = tmp_path_factory.mktemp("trained")
    for seed, name in enumerate(("one", "two")):
        build_adapted(base, seed, layout.of_arm(name, "model"), scratch / name)
    return layout.root


@pytest.fixture(scope="module")
def served(run: Path) -> Iterator[Served]:
    with serve(run) as served:
        yield served
