import os

os.environ["HF_HUB_OFFLINE"] = "1"  # some architectures would query the hub for kernels, and wait for it
from pathlib import Path

import pytest
from family_table import FAMILIES, TOKEN, Family
from zoo import build_model

from delia_ray.models import add_new_tokens
from delia_ray.tasks.config import NoiseInit


@pytest.fixture(scope="session")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Original model folder of each family, by name."""
    root = tmp_path_factory.mktemp("zoo")
    return {family.name: build_model(family, root / family.name / "original") for family in FAMILIES}


@pytest.fixture(scope="session")
def extended(zoo: dict[str, Path]) -> dict[str, Path]:
    """Model folder of each family with the new token, by name."""
    for folder in zoo.values():
        add_new_tokens(folder, [TOKEN], NoiseInit(seed=1), 1, folder.parent / "extended")
    return {name: folder.parent / "extended" for name, folder in zoo.items()}


@pytest.fixture(params=FAMILIES, ids=lambda family: family.name)
def family(request: pytest.FixtureRequest) -> Family:
    return request.param
