"""Requests with and without adapters in one batch of vLLM."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from adapted_models import build_adapted

from delia_ray.core.artifacts import Artifact
from delia_ray.models import encode_prompt, load_model, load_tokenizer
from delia_ray.models.exported import ADAPTER
from delia_ray.training.export.greedy import generate_greedy

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def models(base: Artifact, tmp_path_factory: pytest.TempPathFactory) -> list[Artifact]:
    """Two that were trained, and the base."""
    place = tmp_path_factory.mktemp("mixed_batch")
    return [*(build_adapted(base, seed, place / f"model-{seed}", place / f"trained-{seed}") for seed in range(2)), base]


def answer_in_one_batch(models: list[Artifact], fewer_places: int) -> list[list[int]]:
    *adapted, base = models
    script = Path(__file__).with_name("mixed_batch.py")
    command = [sys.executable, str(script), str(base.data), str(fewer_places), *(str(each.data / ADAPTER) for each in adapted)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])


def answer_alone(model: Artifact) -> list[int]:
    tokenizer = load_tokenizer(model.data)
    prompt = encode_prompt(tokenizer, [{"role": "user", "content": "Name a fruit."}])
    return generate_greedy(load_model(model.data, torch.float32).eval(), tokenizer, [prompt], 12)[0]


def test_a_request_without_adapter_is_answered_by_the_base(models: list[Artifact]):
    alone = [answer_alone(model) for model in models]
    assert answer_in_one_batch(models, 0) == alone
    assert len(set(map(tuple, alone))) == 3


def test_without_an_empty_place_vllm_answers_it_through_an_adapter(models: list[Artifact]):
    """Why ``build_adapter_kwargs`` leaves one empty: if this fails, vLLM no longer needs it."""
    *_, base = answer_in_one_batch(models, 1)
    assert base != answer_alone(models[-1])
