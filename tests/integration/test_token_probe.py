"""From a config to the page of the new token, through every stage before it."""

from collections import Counter

import pyarrow.parquet as pq
import pytest

from delia_ray.core.artifacts import Artifact
from delia_ray.pipeline.run import Run
from delia_ray.probing.tokens.prompts import make_leak_prompts
from delia_ray.probing.tokens.schema import ModelResult, TokenReport
from delia_ray.probing.tokens.stage import TOKENS_KIND
from delia_ray.reporting.pages.tokens_page import render_tokens


@pytest.fixture(scope="module")
def tokens(tuned: Run) -> Artifact:
    return tuned.token_probe()


@pytest.fixture(scope="module")
def report(tokens: Artifact) -> TokenReport:
    return TokenReport.model_validate_json((tokens.data / "tokens.json").read_text())


def test_every_model_is_probed_in_every_layer(report: TokenReport):
    assert list(report.models) == ["base", "delia"]
    for model in report.models.values():
        assert len(model.scale) == 3 and min(model.scale) > 0
        for row in model.rows.values():
            assert set(row.distances) == set(row.ranks) == set(report.concepts)
            assert {len(each.cosine.value) for each in row.distances.values()} == {len(row.lens)} == {3}
            assert row.substitution and row.substitution.n == row.negated.n == row.asked.n == 2
            assert row.leak.words.n == len(make_leak_prompts(report.token))
    assert list(report.models["base"].rows) == ["own", "noise"]
    assert list(report.models["delia"].rows) == ["own", "fresh", "noise"]


def test_the_fresh_row_is_where_the_token_was_before_training_and_the_trained_row_is_not(report: TokenReport):
    def embedding_distances(model: ModelResult, row: str) -> list[float]:
        return [each.euclidean.value[0] for each in model.rows[row].distances.values()]

    base, delia = report.models["base"], report.models["delia"]
    # What was trained are adapters and the token's row: the embedding of every word is what it was.
    assert embedding_distances(delia, "fresh") == pytest.approx(embedding_distances(base, "own"), rel=1e-4)
    assert max(abs(a - b) for a, b in zip(embedding_distances(delia, "own"), embedding_distances(base, "own"), strict=True)) > 1e-4


def test_all_answers_are_beside_the_numbers(tokens: Artifact, report: TokenReport):
    answers = pq.read_table(tokens.data / "answers.parquet").to_pylist()
    prompts = len(make_leak_prompts(report.token))
    counts = Counter((each["arm"], each["row"], each["probe"]) for each in answers)
    assert counts == {
        **{("base", row, "leak"): prompts for row in ("own", "noise")},
        **{("delia", row, "leak"): prompts for row in ("own", "fresh", "noise")},
        **{(arm, "own", probe): 2 for arm in ("base", "delia") for probe in ("spelled", "plain")},
    }
    page = render_tokens(tokens)["tokens.html"]
    assert page.startswith("<!doctype html>") and "&lt;sep&gt;" in page


def test_the_same_probe_again_builds_nothing(tuned: Run, tokens: Artifact):
    assert tuned.token_probe() == tokens == Artifact.open(tokens.path, TOKENS_KIND)
    assert set(tokens.manifest.inputs) == {"base", "delia", "rewritten"}
