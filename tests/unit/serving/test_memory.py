"""Memory of an engine from a model's configuration, against public numbers of models."""

from pathlib import Path

import pytest
from transformers import GemmaConfig, GPT2Config, LlamaConfig, PretrainedConfig

from delia_ray.placement import Engine, Replicas
from delia_ray.serving.memory import estimate_engine


@pytest.mark.parametrize(
    ("config", "parameters", "width"),
    [
        (GemmaConfig(), 8.54e9, 2 * 28 * 16 * 256),
        (LlamaConfig(num_hidden_layers=2, num_attention_heads=32, num_key_value_heads=8), 6.2e8, 2 * 2 * 8 * 128),
        (GPT2Config(), 1.24e8, 2 * 12 * 768),
    ],
    ids=["gemma-7b", "grouped heads", "one projection for queries, keys and values"],
)
def test_weights_and_cache_of_a_token_are_those_of_the_architecture(
    tmp_path: Path, config: PretrainedConfig, parameters: float, width: int
):
    config.save_pretrained(tmp_path)
    memory = estimate_engine(tmp_path, Engine(max_num_seqs=4), 2, 1000, Replicas(num_gpus=1))
    assert memory.weights == pytest.approx(2 * parameters, rel=0.01)
    assert (memory.token, memory.full_batch) == (2 * width, 2 * width * 4 * 1000)
    assert memory.total == memory.weights + memory.full_batch


def test_a_cache_on_a_cpu_has_its_configured_size(tmp_path: Path):
    GPT2Config().save_pretrained(tmp_path)
    memory = estimate_engine(tmp_path, Engine(kv_cache_gib=0.5), 4, 1000, Replicas())
    assert memory.total - memory.weights == memory.cache == 2**29


def test_gpus_of_one_engine_share_its_weights_and_cache(tmp_path: Path):
    GPT2Config().save_pretrained(tmp_path)
    one, two = (estimate_engine(tmp_path, Engine(), 2, 1000, Replicas(num_gpus=gpus)) for gpus in (1, 2))
    assert (one.weights // 2, one.token // 2) == (two.weights, two.token)
