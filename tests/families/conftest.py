import os

os.environ["HF_HUB_OFFLINE"] = "1"  # some architectures would ask the hub for kernels, and wait for it
from pathlib import Path

import pytest
from family_table import FAMILIES, TOKEN, Family
from zoo import make

from delia_ray.models import extend
from delia_ray.tasks.config import NoiseInit


@pytest.fixture(scope="session")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Family -> folder of its model as it comes, below a folder of its own."""
    root = tmp_path_factory.mktemp("zoo")
    return {family.name: make(family, root / family.name / "given") for family in FAMILIES}


@pytest.fixture(scope="session")
def starts(zoo: dict[str, Path]) -> dict[str, Path]:
    """Family -> folder of its model with a new token."""
    for folder in zoo.values():
        extend(folder, [TOKEN], NoiseInit(seed=1), 1, folder.parent / "start")
    return {name: folder.parent / "start" for name, folder in zoo.items()}


@pytest.fixture(params=FAMILIES, ids=lambda family: family.name)
def family(request: pytest.FixtureRequest) -> Family:
    return request.param
