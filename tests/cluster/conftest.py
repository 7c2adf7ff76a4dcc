import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from clusters import TestCluster, start_cluster
from transformers import LlamaConfig, LlamaForCausalLM

from delia_ray.models import adopt_model, load_tokenizer, save_model

ROOT = Path(__file__).parents[2]
NODE_MEMORY = 200_000_000
"""Bytes of a node's object store."""


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A short one: sockets lie below it, and a path of theirs has at most 107 bytes."""
    place = Path(tempfile.mkdtemp(prefix="dc", dir="/tmp"))
    yield place
    shutil.rmtree(place, ignore_errors=True)


@pytest.fixture(scope="module")
def cluster(folder: Path) -> Iterator[TestCluster]:
    """Up to two workers of 4 CPUs, and up to four of 8 CPUs and a GPU (a number; nothing computes on it); none at the start."""
    types = {
        "cpu": {"resources": {"CPU": 4, "object_store_memory": NODE_MEMORY}, "max_workers": 2},
        "gpu": {"resources": {"CPU": 8, "GPU": 1, "object_store_memory": NODE_MEMORY}, "max_workers": 4},
    }
    with start_cluster(folder, types) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def working_folder(cluster: TestCluster) -> Path:
    """What a user has on the head: a config, and a model in the home folder, which no worker sees."""
    model = cluster.home / "model"
    tokenizer = load_tokenizer(adopt_model("builtin:smollm2-135m-instruct").path)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        tie_word_embeddings=True,
    )
    save_model(LlamaForCausalLM(config), tokenizer, model)
    here = cluster.home / "work"
    here.mkdir()
    shutil.copy(ROOT / "jobs/configs/tiny.yaml", here)
    (here / ".gitignore").write_text("*.yaml\n")  # what git leaves out has to be uploaded, too
    return here
