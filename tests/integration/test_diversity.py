"""Diversity of a pool: the same measures from any number of actors, and vectors that depend on the text alone."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from transformers import BertConfig, BertModel

from delia_ray.cli.terminal import StageLine
from delia_ray.core.artifacts import Artifact, Provenance
from delia_ray.core.errors import UserError
from delia_ray.embedding.encoder import Embedder, adopt_encoder
from delia_ray.models import adopt_model, load_tokenizer
from delia_ray.placement import ActorPool, Engine
from delia_ray.reporting.pages.diversity_page import render_diversity
from delia_ray.synthesis.answers_stage import generate_answers
from delia_ray.synthesis.config import EchoEngine, Embeddings, FolderEmbeddings, OwnEmbeddings, SynthesizeConfig
from delia_ray.synthesis.context import GenerationContext
from delia_ray.synthesis.diversity.measures import Diversity
from delia_ray.synthesis.diversity_stage import measure_diversity
from delia_ray.synthesis.queries_stage import generate_queries
from delia_ray.synthesis.query_config import MagpieQueries

TEXTS = ["What is the capital of France?", "", "Hi", "Tell me a long story about a fox, a hen and a very old gate. " * 30]


def vectors(kind: Embeddings, folder: Path, texts: list[str]) -> np.ndarray:
    return np.stack(Embedder(kind, folder, "float32")(pa.table({"text": texts}))["vector"].to_numpy())


def config(embeddings: Embeddings | None) -> SynthesizeConfig:
    return SynthesizeConfig(engine=EchoEngine(kind="echo"), queries=MagpieQueries(rows=40), embeddings=embeddings)


@pytest.fixture(scope="module")
def own(tiny_models: dict[str, Artifact]) -> Path:
    return tiny_models["one"].data


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory, own: Path) -> Path:
    folder = tmp_path_factory.mktemp("encoder")
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(**sizes, vocab_size=49152, max_position_embeddings=64)).save_pretrained(folder)
    load_tokenizer(own).save_pretrained(folder)
    return folder


@pytest.mark.usefixtures("local_ray")
@pytest.mark.slow
def test_a_pool_is_measured_alike_by_one_actor_and_by_two(tmp_path: Path, own: Path) -> None:
    def context(actors: int) -> GenerationContext:
        pool = ActorPool(size=actors, batch_rows=8)
        line, provenance = StageLine("test"), Provenance(None, ["pytest"])
        return GenerationContext(
            adopt_model(str(own)), Engine(dtype="float32"), pool, tmp_path / "cache", lambda _=None: None, line, provenance
        )

    settings = config(OwnEmbeddings(texts=20))
    pool = generate_answers(settings, generate_queries(settings, context(1), tmp_path / "queries"), context(1), tmp_path / "diverse")
    one, two = (measure_diversity(settings, pool, context(n).model, context(n), tmp_path / str(n)) for n in (1, 2))
    bare = measure_diversity(config(None), pool, None, context(1), tmp_path / "bare")
    diversity = [Diversity.model_validate_json((each.data / "diversity.json").read_text()) for each in (one, two, bare)]
    assert diversity[0].exchanges == diversity[0].answers.texts == pool.manifest.counts["rows"]
    assert diversity[0].answers.embedded_texts == 20
    for name, measure in diversity[0].answers.measures.items():
        assert diversity[1].answers.measures[name].value == pytest.approx(measure.value, rel=1e-4)
    assert set(diversity[0].answers.measures) - set(diversity[2].answers.measures) == {"vendi", "mean_distance"}
    assert pq.read_metadata(one.data / "map.parquet").num_rows == 2 * 20
    assert all("<h2" in page for artifact in (one, bare) for page in render_diversity(artifact).values())


def test_a_texts_vector_does_not_depend_on_its_neighbors(own: Path, encoder: Path) -> None:
    for kind, folder in ((OwnEmbeddings(), own), (FolderEmbeddings(kind="folder", path=encoder), encoder)):
        together = vectors(kind, folder, TEXTS)
        alone = np.concatenate([vectors(kind, folder, [text]) for text in TEXTS])
        assert together.dtype == np.float32
        assert together == pytest.approx(alone, abs=1e-4)


def test_an_encoder_is_averaged_over_the_tokens_it_can_read(encoder: Path) -> None:
    tokenizer, model = load_tokenizer(encoder), BertModel.from_pretrained(encoder).eval()
    ids = torch.tensor(tokenizer(TEXTS[0])["input_ids"])[None]
    with torch.no_grad():
        expected = model(ids).last_hidden_state[0].mean(0)
    embeddings = vectors(FolderEmbeddings(kind="folder", path=encoder), encoder, [TEXTS[0], TEXTS[3]])
    assert embeddings[0] == pytest.approx(expected.numpy(), abs=1e-5)
    assert np.isfinite(embeddings[1]).all()


def test_an_encoder_that_pools_another_way_is_refused_by_name(encoder: Path, tmp_path: Path, own: Path) -> None:
    model = adopt_model(str(own))
    assert adopt_encoder(FolderEmbeddings(kind="folder", path=encoder), model, "synthesize.embeddings") == adopt_model(str(encoder))
    assert adopt_encoder(OwnEmbeddings(), model, "synthesize.embeddings") == model
    (tmp_path / "1_Pooling").mkdir()
    (tmp_path / "1_Pooling/config.json").write_text(json.dumps({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}))
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UserError, match=r"^synthesize\.embeddings\.path: "):
            adopt_encoder(FolderEmbeddings(kind="folder", path=folder), model, "synthesize.embeddings")
