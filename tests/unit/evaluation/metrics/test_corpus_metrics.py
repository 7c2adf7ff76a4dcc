"""Corpus scores from sums of row statistics equal sacreBLEU's."""

from typing import cast

import numpy as np
import pytest
from numpy.typing import NDArray
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.significance import PairedTest, Result

from delia_ray.core.errors import UserError
from delia_ray.evaluation.metrics.corpus_metrics import (
    CORPUS_METRICS,
    check_bleu_tokenizer,
    choose_bleu_tokenizer,
    extract_row_statistics,
    get_signature,
    score_corpora,
)
from delia_ray.evaluation.metrics.definitions import define_row_metric
from delia_ray.evaluation.statistics.clusters import assign_singletons
from delia_ray.evaluation.statistics.estimation import estimate_difference, estimate_interval

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
    assert score_corpora(metric, extract_row_statistics(metric, outputs, REFERENCES)[None])[0] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("metric", CORPUS_METRICS)
def test_drawn_rows_are_scored_as_a_corpus_of_them(metric: str) -> None:
    counts = extract_row_statistics(metric, CLOSE, REFERENCES)
    resample = [0, 0, 3, 4, 1]
    expected = CORPUS_METRICS[metric]().corpus_score([CLOSE[n] for n in resample], [[REFERENCES[n] for n in resample]]).score
    assert score_corpora(metric, counts[[resample, [0, 1, 2, 3, 4]]])[0] == pytest.approx(expected, abs=1e-9)


def make_columns(metric: str, outputs: list[str], references: list[str]) -> dict[str, NDArray[np.int64]]:
    return {metric: extract_row_statistics(metric, outputs, references)}


@pytest.mark.parametrize("metric", CORPUS_METRICS)
def test_the_interval_agrees_with_sacrebleus_own(metric: str) -> None:
    """sacreBLEU's 95 % interval is 1.96 standard deviations of its resamples: ours is not narrower, and for many rows as wide."""
    many, close = REFERENCES * 20, CLOSE * 20
    interval = estimate_interval(
        define_row_metric(metric), make_columns(metric, close, many), [assign_singletons(100)], seed=0, resamples=1000
    )
    reference = CORPUS_METRICS[metric]().corpus_score(close, [many], n_bootstrap=1000)
    assert interval.value == pytest.approx(reference.score, abs=1e-9)
    assert interval.low is not None and interval.high is not None
    assert 0.97 * reference._ci <= (interval.high - interval.low) / 2 <= 1.2 * reference._ci


@pytest.mark.parametrize("metric", CORPUS_METRICS)
def test_the_test_of_a_difference_is_sacrebleus_approximate_randomization(metric: str) -> None:
    many, left = REFERENCES * 12, (CLOSE + FAR) * 6
    right = (FAR[:2] + CLOSE[2:] + CLOSE[:1] + FAR[1:]) * 6
    scorer = CORPUS_METRICS[metric]()
    _, results = PairedTest([("right", right), ("left", left)], {metric: scorer}, [many], test_type="ar", n_samples=10_000)()
    name = next(key for key in results if key != "System")
    baseline, reference = (cast(Result, each) for each in results[name])
    left_columns, right_columns = (make_columns(metric, outputs, many) for outputs in (left, right))
    difference = estimate_difference(
        define_row_metric(metric), left_columns, right_columns, [assign_singletons(60)], seed=0, resamples=1000
    )
    assert difference.difference == pytest.approx(reference.score - baseline.score, abs=1e-6)
    assert difference.p is not None and reference.p_value is not None
    assert 0.005 < reference.p_value < 0.3, "the example is neither clear nor hopeless"
    assert difference.p == pytest.approx(reference.p_value, abs=0.02)


@pytest.mark.parametrize("metric", CORPUS_METRICS)
def test_an_arm_against_itself_is_no_difference(metric: str) -> None:
    columns = make_columns(metric, CLOSE * 4, REFERENCES * 4)
    difference = estimate_difference(define_row_metric(metric), columns, columns, [assign_singletons(20)], seed=0, resamples=1000)
    assert (difference.difference, difference.p) == (0.0, 1.0)


def test_no_rows_have_no_counts() -> None:
    assert len(extract_row_statistics("bleu", [], [])) == 0


def test_the_signature_names_the_version_and_the_tokens() -> None:
    assert "version:" in get_signature("bleu") and "tok:13a" in get_signature("bleu")
    assert "nw:2" in get_signature("chrf")
    assert np.isfinite(score_corpora("bleu", extract_row_statistics("bleu", [""], ["a"])[None])).all()


CHINESE = ["昨天下了一整夜的雨。", "他们坐早班火车去了海边。", "图书馆星期一不开门。"]
JAPANESE = ["昨夜は一晩中雨が降りました。", "彼らは朝の電車で海へ行きました。", "図書館は月曜日は休みです。"]
THAI = ["เมื่อคืนฝนตกทั้งคืน", "พวกเขานั่งรถไฟเที่ยวเช้าไปทะเล", "ห้องสมุดปิดวันจันทร์"]


def dropped(texts: list[str]) -> list[str]:
    """The texts, each without its sixth letter."""
    return [text[:5] + text[6:] for text in texts]


@pytest.mark.parametrize("references", [CHINESE, JAPANESE, THAI])
def test_bleu_of_a_language_without_spaces_counts_letters_or_words_of_it(references: list[str]) -> None:
    assert score_corpora("bleu", extract_row_statistics("bleu", references, references)[None])[0] == pytest.approx(100)
    assert 40 < score_corpora("bleu", extract_row_statistics("bleu", dropped(references), references)[None])[0] < 95


def test_the_tokens_are_those_that_sacrebleu_takes_for_the_language() -> None:
    assert choose_bleu_tokenizer(CHINESE) == "zh"
    assert choose_bleu_tokenizer(JAPANESE) in ("ja-mecab", "char") and choose_bleu_tokenizer(["도서관은 월요일에 쉽니다."]) in (
        "ko-mecab",
        "char",
    )
    assert choose_bleu_tokenizer(THAI) == "char"
    assert {choose_bleu_tokenizer([text]) for text in (*REFERENCES, "Библиотека закрыта.", "पुस्तकालय बंद है।", "")} == {"13a"}
    assert choose_bleu_tokenizer([*CHINESE, "Sunday, Monday"]) == "zh"
    reference = BLEU(trg_lang="zh").corpus_score(dropped(CHINESE), [CHINESE])
    assert score_corpora("bleu", extract_row_statistics("bleu", dropped(CHINESE), CHINESE)[None])[0] == pytest.approx(
        reference.score, abs=1e-9
    )


def test_tokens_may_be_chosen_and_are_in_the_signature() -> None:
    by_letters = BLEU(tokenize="char").corpus_score(CLOSE, [REFERENCES]).score
    assert score_corpora("bleu", extract_row_statistics("bleu", CLOSE, REFERENCES, "char")[None])[0] == pytest.approx(by_letters, abs=1e-9)
    assert "tok:zh" in get_signature("bleu", "zh") and "tok:char" in get_signature("bleu", "char")


def test_tokens_that_cannot_be_had_are_refused_with_the_way_to_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sacrebleu.tokenizers.tokenizer_ja_mecab.MeCab", None)
    with pytest.raises(UserError, match=r"task\.bleu_tokens: ja-mecab .*pip install 'sacrebleu\[ja\]'.*char"):
        check_bleu_tokenizer("ja-mecab")
    assert choose_bleu_tokenizer(JAPANESE) == "char"
