"""Scores from added counts are sacreBLEU's own."""

from typing import cast

import numpy as np
import pytest
from numpy.typing import NDArray
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.significance import PairedTest, Result

from delia_ray.errors import UserError
from delia_ray.evaluation.clusters import single
from delia_ray.evaluation.corpus_metrics import CORPUS_METRICS, check_tokens, corpus_scores, row_counts, signature, tokens_for
from delia_ray.evaluation.estimation import compare, estimate
from delia_ray.evaluation.measures import row_measure

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


def measured(metric: str, outputs: list[str], references: list[str]) -> dict[str, NDArray[np.int64]]:
    return {metric: row_counts(metric, outputs, references)}


@pytest.mark.parametrize("metric", CORPUS_METRICS)
def test_the_interval_agrees_with_sacrebleus_own(metric: str) -> None:
    """sacreBLEU's 95 % interval is 1.96 standard deviations of its resamples: ours is not narrower, and for many rows as wide."""
    many, close = REFERENCES * 20, CLOSE * 20
    found = estimate(row_measure(metric), measured(metric, close, many), [single(100)], seed=0, resamples=1000)
    theirs = CORPUS_METRICS[metric]().corpus_score(close, [many], n_bootstrap=1000)
    assert found.value == pytest.approx(theirs.score, abs=1e-9)
    assert found.low is not None and found.high is not None
    assert 0.97 * theirs._ci <= (found.high - found.low) / 2 <= 1.2 * theirs._ci


@pytest.mark.parametrize("metric", CORPUS_METRICS)
def test_the_test_of_a_difference_is_sacrebleus_approximate_randomisation(metric: str) -> None:
    many, left = REFERENCES * 12, (CLOSE + FAR) * 6
    right = (FAR[:2] + CLOSE[2:] + CLOSE[:1] + FAR[1:]) * 6
    scorer = CORPUS_METRICS[metric]()
    _, found = PairedTest([("right", right), ("left", left)], {metric: scorer}, [many], test_type="ar", n_samples=10_000)()
    name = next(key for key in found if key != "System")
    baseline, theirs = (cast(Result, each) for each in found[name])
    ours, others = (measured(metric, outputs, many) for outputs in (left, right))
    apart = compare(row_measure(metric), ours, others, [single(60)], seed=0, resamples=1000)
    assert apart.difference == pytest.approx(theirs.score - baseline.score, abs=1e-6)
    assert apart.p is not None and theirs.p_value is not None
    assert 0.005 < theirs.p_value < 0.3, "the example is neither clear nor hopeless"
    assert apart.p == pytest.approx(theirs.p_value, abs=0.02)


@pytest.mark.parametrize("metric", CORPUS_METRICS)
def test_an_arm_against_itself_is_no_difference(metric: str) -> None:
    same = measured(metric, CLOSE * 4, REFERENCES * 4)
    found = compare(row_measure(metric), same, same, [single(20)], seed=0, resamples=1000)
    assert (found.difference, found.p) == (0.0, 1.0)


def test_no_rows_have_no_counts() -> None:
    assert len(row_counts("bleu", [], [])) == 0


def test_the_signature_names_the_version_and_the_tokens() -> None:
    assert "version:" in signature("bleu") and "tok:13a" in signature("bleu")
    assert "nw:2" in signature("chrf")
    assert np.isfinite(corpus_scores("bleu", row_counts("bleu", [""], ["a"])[None])).all()


CHINESE = ["昨天下了一整夜的雨。", "他们坐早班火车去了海边。", "图书馆星期一不开门。"]
JAPANESE = ["昨夜は一晩中雨が降りました。", "彼らは朝の電車で海へ行きました。", "図書館は月曜日は休みです。"]
THAI = ["เมื่อคืนฝนตกทั้งคืน", "พวกเขานั่งรถไฟเที่ยวเช้าไปทะเล", "ห้องสมุดปิดวันจันทร์"]


def dropped(texts: list[str]) -> list[str]:
    """The texts, each without its sixth letter."""
    return [text[:5] + text[6:] for text in texts]


@pytest.mark.parametrize("references", [CHINESE, JAPANESE, THAI])
def test_bleu_of_a_language_without_spaces_counts_letters_or_words_of_it(references: list[str]) -> None:
    assert corpus_scores("bleu", row_counts("bleu", references, references)[None])[0] == pytest.approx(100)
    assert 40 < corpus_scores("bleu", row_counts("bleu", dropped(references), references)[None])[0] < 95


def test_the_tokens_are_those_that_sacrebleu_takes_for_the_language() -> None:
    assert tokens_for(CHINESE) == "zh"
    assert tokens_for(JAPANESE) in ("ja-mecab", "char") and tokens_for(["도서관은 월요일에 쉽니다."]) in ("ko-mecab", "char")
    assert tokens_for(THAI) == "char"
    assert {tokens_for([text]) for text in (*REFERENCES, "Библиотека закрыта.", "पुस्तकालय बंद है।", "")} == {"13a"}
    assert tokens_for([*CHINESE, "Sunday, Monday"]) == "zh"
    theirs = BLEU(trg_lang="zh").corpus_score(dropped(CHINESE), [CHINESE])
    assert corpus_scores("bleu", row_counts("bleu", dropped(CHINESE), CHINESE)[None])[0] == pytest.approx(theirs.score, abs=1e-9)


def test_tokens_may_be_chosen_and_are_in_the_signature() -> None:
    by_letters = BLEU(tokenize="char").corpus_score(CLOSE, [REFERENCES]).score
    assert corpus_scores("bleu", row_counts("bleu", CLOSE, REFERENCES, "char")[None])[0] == pytest.approx(by_letters, abs=1e-9)
    assert "tok:zh" in signature("bleu", "zh") and "tok:char" in signature("bleu", "char")


def test_tokens_that_cannot_be_had_are_refused_with_the_way_to_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sacrebleu.tokenizers.tokenizer_ja_mecab.MeCab", None)
    with pytest.raises(UserError, match=r"task\.bleu_tokens: ja-mecab .*pip install 'sacrebleu\[ja\]'.*char"):
        check_tokens("ja-mecab")
    assert tokens_for(JAPANESE) == "char"
