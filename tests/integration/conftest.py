import subprocess
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
import torch
from process_groups import single_process_group
from training_runs import PROVENANCE, TOKEN, row, train
from transformers import LlamaConfig, LlamaForCausalLM

from delia_ray.cli.terminal import Terminal
from delia_ray.core.artifacts import MODEL_KIND, Artifact, Counts, Provenance, Workspace, build_once
from delia_ray.core.config import Config, build_config
from delia_ray.core.records import MIXED_KIND, MIXED_SCHEMA
from delia_ray.models import ModelFolder, adopt_model, load_tokenizer, save_model
from delia_ray.pipeline.run import Run
from delia_ray.placement import Cluster, Engine
from delia_ray.ray_runtime.cluster import connect
from delia_ray.settings import Settings
from delia_ray.tasks.config import NoiseInit
from delia_ray.training.base_model import prepare_base

TINY = Path(__file__).parents[2] / "jobs/configs/tiny.yaml"
SMALL = ["arms={sft: null, delia: {}}", "probe.tokens.answer_tokens=4", "probe.tokens.prompts=2", "probe.tokens.resamples=1000"]


class Dice(Config):
    seed: int


@pytest.fixture(scope="session")
def engine() -> Engine:
    return Engine(dtype="float32", max_num_seqs=8)


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    connect(Cluster())
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def process_group() -> Iterator[None]:
    with single_process_group():
        yield


@pytest.fixture
def small_disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A disk of the MiB that the test's parameter names."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={request.param}m", "tmpfs", str(place)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("a small disk is a tmpfs, which this user may not mount")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    """Two finished models with different random weights, and with the built-in model's tokenizer and chat template."""
    tokenizer = load_tokenizer(adopt_model("builtin:smollm2-135m-instruct").path)
    root = tmp_path_factory.mktemp("tiny")
    return {name: _roll(root / name, seed, tokenizer) for seed, name in enumerate(("one", "two"))}


@pytest.fixture(scope="session")
def tied_model(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """One that reads and scores with the same table."""
    tokenizer = load_tokenizer(adopt_model("builtin:smollm2-135m-instruct").path)
    return _roll(tmp_path_factory.mktemp("tiny") / "tied", 0, tokenizer, tied=True)


def _roll(place: Path, seed: int, tokenizer: object, *, tied: bool = False) -> Artifact:
    def write(workspace: Workspace) -> Counts:
        torch.manual_seed(seed)
        config = LlamaConfig(
            hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
            tie_word_embeddings=tied,
            vocab_size=49152, max_position_embeddings=2048, initializer_range=0.3, bos_token_id=1, eos_token_id=2, pad_token_id=2,
        )  # fmt: skip
        save_model(LlamaForCausalLM(config), tokenizer, workspace.data)
        return {}

    return build_once(
        place, stage="tiny/1", kind=MODEL_KIND, request=Dice(seed=seed), inputs={}, provenance=Provenance(None, ["pytest"]), write=write
    )


@pytest.fixture(scope="session")
def tuned(tmp_path_factory: pytest.TempPathFactory, tiny_models: dict[str, Artifact], local_ray: None) -> Iterator[Run]:
    """A run of one arm; what a test asks of it first is built then."""
    root = tmp_path_factory.mktemp("runs")
    settings = build_config(Settings, [TINY], [f"run.root={root}", f"model={tiny_models['one'].data}", *SMALL])
    with (root / "terminal.txt").open("w") as stream, Run(settings, Terminal(stream), Provenance(None, ["pytest"])) as run:
        yield run


@pytest.fixture(scope="session")
def base(tiny_models: dict[str, Artifact], tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """A small model with a new token."""
    place = tmp_path_factory.mktemp("start") / "start"
    model = ModelFolder(tiny_models["one"].data, tiny_models["one"].fingerprint)
    return prepare_base(model, (TOKEN,), NoiseInit(), 1, place, PROVENANCE)


@pytest.fixture(scope="session")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """A mixture of eight task rows and eight diverse ones."""

    def write(workspace: Workspace) -> Counts:
        rows = [row(group, n) for group in ("task", "diverse") for n in range(8)]
        pq.write_table(pa.Table.from_pylist(rows, schema=MIXED_SCHEMA), workspace.data / "0.parquet")
        return {"rows": len(rows)}

    place = tmp_path_factory.mktemp("mixed") / "mixed"
    return build_once(place, stage="given/1", kind=MIXED_KIND, request=Dice(seed=0), inputs={}, provenance=PROVENANCE, write=write)


@pytest.fixture(scope="session")
def reference(local_ray: None, base: Artifact, mixed: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """What one worker on one process makes of it, unbroken."""
    return train(base, mixed, tmp_path_factory.mktemp("reference") / "checkpoint")
