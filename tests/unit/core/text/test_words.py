"""Word segmentation in several scripts."""

import pytest
import regex

from delia_ray.core.text.words import (
    build_word_pattern,
    count_whitespace_words,
    count_words,
    detect_script,
    split_words,
    take_first_words,
    weighted_ngrams,
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The Cat's 3.5 owls_2", ["the", "cat", "s", "3", "5", "owls_2"]),
        ("La fenêtre, naïve", ["la", "fenêtre", "naïve"]),
        ("Lestrarfélagið", ["lestrarfélagið"]),
        ("雨が降る。", ["雨", "が", "降", "る"]),
        ("コーヒー2杯", ["コ", "ー", "ヒ", "ー", "2", "杯"]),
        ("请用USB接口", ["请", "用", "usb", "接", "口"]),
        ("मिट्टी का घड़ा", ["मिट्टी", "का", "घड\u093cा"]),
        ("வணக்கம் நண்பரே", ["வணக்கம்", "நண்பரே"]),
        ("בַּיִת גָּדוֹל", ["בַּיִת", "גָּדוֹל"]),
        ("كِتابٌ جديد", ["كِتابٌ", "جديد"]),
        ("บ้านเก่า", ["บ้", "า", "น", "เ", "ก่", "า"]),
        ("ຂອບໃຈ", ["ຂ", "ອ", "ບ", "ໃ", "ຈ"]),
        ("ផ្ទះ", ["ផ្", "ទះ"]),
        ("ကျောင်း", ["ကျော", "င်း"]),
        ("བོད་ཡིག", ["བོད", "ཡིག"]),
        ("한국어 사전", ["한국어", "사전"]),
        ("👍 … !", []),
    ],
)
def test_words_are_letters_with_their_marks_and_single_letters_in_scripts_without_spaces(text: str, words: list[str]) -> None:
    assert split_words(text) == words


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Caf\u00e9 STRASSE", "cafe\u0301 straße"),
        ("ＡＢＣ １２", "abc 12"),
        ("soft\u00adhyphen", "softhyphen"),
        ("می\u200cروم", "میروم"),
        ("ｶﾀｶﾅ", "カタカナ"),
        ("don´t", "don't"),
    ],
)
def test_equivalent_spellings_give_the_same_words(one: str, other: str) -> None:
    assert split_words(one) == split_words(other)


@pytest.mark.parametrize(
    ("text", "count"), [("one two three", 3), ("春眠不觉晓", 3), ("春眠不觉晓处", 3), ("我有 two cats", 3), ("", 0), ("कलम दवात", 2)]
)
def test_two_letters_without_spaces_count_as_a_word(text: str, count: int) -> None:
    assert count_words(split_words(text)) == count


def test_whitespace_words_count_as_one_and_two_letters_count_as_one() -> None:
    assert count_whitespace_words("Well-known facts don't change .") == 5
    assert count_whitespace_words("处处闻啼鸟，夜来风雨声") == 5


def test_an_ngram_of_n_words_has_2n_letters_in_scripts_without_spaces() -> None:
    assert list(weighted_ngrams(["a", "b", "c"], 2)) == [("a", "b"), ("b", "c")]
    assert list(weighted_ngrams(list("夜来风雨声"), 2)) == [tuple("夜来风雨"), tuple("来风雨声")]
    assert list(weighted_ngrams(["go", *"夜来", "on"], 2)) == [("go", "夜", "来"), ("夜", "来", "on")]
    assert list(weighted_ngrams(list("夜来"), 2)) == []


def test_the_first_words_keep_contractions_whole() -> None:
    assert take_first_words("What’s the matter?", 2) == ["what’s", "the"]
    assert take_first_words("请告诉我今天的天气", 2) == list("请告诉我")
    assert take_first_words("Hm", 2) == ["hm"]


@pytest.mark.parametrize(
    ("word", "text", "expected"),
    [
        ("JSON", "请用JSON格式回答", True),
        ("中文", "把这句话译成中文吧", True),
        ("कल", "कलम", False),
        ("कल", "कल आना", True),
        ("art", "party", False),
        ("art", "état d’art.", True),
        ("été", "étés", False),
        ("{", "a{b", True),
    ],
)
def test_a_whole_word_needs_word_boundaries(word: str, text: str, expected: bool) -> None:
    assert (regex.search(build_word_pattern(word), text, regex.V1 | regex.IGNORECASE) is not None) is expected


@pytest.mark.parametrize(
    ("texts", "script"),
    [
        (["Good morning.", "早上好"], "chinese"),
        (["Guten Morgen allerseits", "早"], "spaced"),
        (["東京で会いましょう", "東京都"], "japanese"),
        (["좋은 아침입니다", "ok"], "korean"),
        (["สวัสดีตอนเช้า"], "other unspaced"),
        (["བཀྲ་ཤིས"], "other unspaced"),
        (["सुप्रभात", "доброе утро"], "spaced"),
        (["", "!"], "spaced"),
    ],
)
def test_the_main_script_is_that_of_most_words(texts: list[str], script: str) -> None:
    assert detect_script(texts) == script
