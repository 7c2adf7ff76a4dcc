"""From a config to the page of the new token, through every stage before it."""

from collections import Counter

import pyarrow.parquet as pq
import pytest

from delia_ray.artifacts import Artifact
from delia_ray.pipeline import Pipeline
from delia_ray.probing.token_prompts import leak_prompts
from delia_ray.probing.token_schema import Model, TokenReport
from delia_ray.probing.token_stage import TOKENS_KIND


@pytest.fixture(scope="module")
def tokens(tuned: Pipeline) -> Artifact:
    return tuned.tokens_probe()


@pytest.fixture(scope="module")
def report(tokens: Artifact) -> TokenReport:
    return TokenReport.model_validate_json((tokens.data / "tokens.json").read_text())


def test_every_model_is_looked_at_in_every_layer(report: TokenReport):
    assert list(report.models) == ["base", "delia"]
    for model in report.models.values():
        assert len(model.scale) == 3 and min(model.scale) > 0
        for row in model.rows.values():
            assert set(row.distances) == set(row.ranks) == set(report.concepts)
            assert {len(each.cosine.value) for each in row.distances.values()} == {len(row.lens)} == {3}
            assert row.substitution and row.substitution.n == row.negated.n == row.asked.n == 2
            assert row.leak.words.n == len(leak_prompts(report.token))
    assert list(report.models["base"].rows) == ["own", "noise"]
    assert list(report.models["delia"].rows) == ["own", "fresh", "noise"]


def test_the_control_lies_where_the_token_lay_before_training_and_the_trained_row_does_not(report: TokenReport):
    def embedded(model: Model, row: str) -> list[float]:
        return [each.euclidean.value[0] for each in model.rows[row].distances.values()]

    base, delia = report.models["base"], report.models["delia"]
    # What was trained are adapters and the token's row: the embedding of every word is what it was.
    assert embedded(delia, "fresh") == pytest.approx(embedded(base, "own"), rel=1e-4)
    assert max(abs(a - b) for a, b in zip(embedded(delia, "own"), embedded(base, "own"), strict=True)) > 1e-4


def test_all_answers_are_beside_the_numbers(tokens: Artifact, report: TokenReport):
    said = pq.read_table(tokens.data / "answers.parquet").to_pylist()
    asked = len(leak_prompts(report.token))
    counts = Counter((each["arm"], each["row"], each["probe"]) for each in said)
    assert counts == {
        **{("base", row, "leak"): asked for row in ("own", "noise")},
        **{("delia", row, "leak"): asked for row in ("own", "fresh", "noise")},
        **{(arm, "own", probe): 2 for arm in ("base", "delia") for probe in ("spelled", "plain")},
    }
    page = (tokens.data / "index.html").read_text()
    assert page.startswith("<!doctype html>") and "&lt;sep&gt;" in page


def test_the_same_probe_again_builds_nothing(tuned: Pipeline, tokens: Artifact):
    assert tuned.tokens_probe() == tokens == Artifact.open(tokens.path, TOKENS_KIND)
    assert set(tokens.manifest.inputs) == {"base", "delia", "rewritten"}
