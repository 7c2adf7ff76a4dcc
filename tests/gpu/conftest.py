"""The device of a test: the CPU with small sizes, or a GPU (``-m gpu``)."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # nothing here is on the hub

import pytest
import torch


@pytest.fixture(params=["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.param) if request.param == "cpu" else request.getfixturevalue("gpu")


@pytest.fixture
def gpu() -> torch.device:
    """The first GPU, for tests that are marked ``gpu``."""
    if not torch.cuda.is_available():
        pytest.fail("torch sees no GPU", pytrace=False)
    return torch.device("cuda", 0)
