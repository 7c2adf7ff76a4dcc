"""Scores from added counts are sacreBLEU's own."""

import numpy as np
import pytest

from delia_ray.evaluation.bootstrap import bootstrap, paired_bootstrap
from delia_ray.evaluation.corpus_metrics import CORPUS_METRICS, corpus_scores, row_counts, signature

REFERENCES = [
    "The glacier has retreated by two kilometres since the spring.",
    "She sailed from Reykjavik to the Faroe Islands.",
    "No one was hurt.",
    "The minister said that the budget would be balanced by next year.",
    "Fishing quotas were raised again, to the dismay of the smaller towns.",
]
CLOSE = [
    "The glacier has shrunk by two kilometres since spring.",
    "She sailed from Reykjavik to the Faroe Islands.",
    "Nobody was hurt.",
    "The minister said the budget will be balanced next year.",
    "Fishing quotas were raised once more, to the dismay of small towns.",
]
FAR = ["The ice.", "She went by ship.", "No one was hurt.", "A minister spoke of money.", "Fish are caught in towns again."]


@pytest.mark.parametrize("metric", CORPUS_METRICS)
@pytest.mark.parametrize("outputs", [CLOSE, FAR, REFERENCES, ["", *CLOSE[1:]]])
def test_the_score_is_sacrebleus(metric: str, outputs: list[str]) -> None:
    expected = CORPUS_METRICS[metric]().corpus_score(outputs, [REFERENCES]).score
    assert corpus_scores(metric, row_counts(metric, outputs, REFERENCES)[None])[0] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("metric", CORPUS_METRICS)
def test_drawn_rows_are_scored_as_a_corpus_of_them(metric: str) -> None:
    counts = row_counts(metric, CLOSE, REFERENCES)
    drawn = [0, 0, 3, 4, 1]
    expected = CORPUS_METRICS[metric]().corpus_score([CLOSE[n] for n in drawn], [[REFERENCES[n] for n in drawn]]).score
    assert corpus_scores(metric, counts[[drawn, [0, 1, 2, 3, 4]]])[0] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("metric", CORPUS_METRICS)
def test_the_interval_and_the_paired_difference_agree_with_sacrebleus_own(metric: str) -> None:
    """sacreBLEU's 95 % interval is 1.96 standard deviations of its resamples, ours their percentiles: alike for many rows."""
    many, close, far = REFERENCES * 20, CLOSE * 20, FAR * 20
    left, right = ({"counts": row_counts(metric, outputs, many)} for outputs in (close, far))
    found = bootstrap(lambda c: corpus_scores(metric, c["counts"]), left, seed=0, resamples=1000)
    theirs = CORPUS_METRICS[metric]().corpus_score(close, [many], n_bootstrap=1000)
    assert found.value == pytest.approx(theirs.score, abs=1e-9)
    assert found.low is not None and found.high is not None
    assert (found.high - found.low) / 2 == pytest.approx(theirs._ci, rel=0.15)
    apart = paired_bootstrap(lambda c: corpus_scores(metric, c["counts"]), left, right, seed=0)
    assert apart.p is not None and apart.p <= 0.002
    same = paired_bootstrap(lambda c: corpus_scores(metric, c["counts"]), left, left, seed=0)
    assert (same.difference, same.p) == (0.0, 1.0)


def test_no_rows_have_no_counts() -> None:
    assert len(row_counts("bleu", [], [])) == 0


def test_the_signature_names_the_version_and_the_tokens() -> None:
    assert "version:" in signature("bleu") and "tok:13a" in signature("bleu")
    assert "nw:2" in signature("chrf")
    assert np.isfinite(corpus_scores("bleu", row_counts("bleu", [""], ["a"])[None])).all()
