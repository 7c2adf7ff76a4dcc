import pytest

from delia_ray.core.text.overlap import OverlapIndex

LONG = "The quick brown fox jumps over the lazy dog while seven wise owls look on from above"
SHORT = "What is the capital city of Iceland?"
TEXTS = [("test-1", LONG), ("everyday-2", SHORT), ("everyday-3", "Why?")]
INDEX = OverlapIndex(TEXTS, similarity=0.8, ngram_words=13)


@pytest.mark.parametrize(
    ("text", "overlap"),
    [
        (f"He wrote: {LONG[:70].upper()}... And then he slept.", "13 words in a row of test-1"),
        ("what is the capital city of iceland", "near-duplicate of everyday-2 (1.00)"),
        ("So what is the capital city of Iceland?", "near-duplicate of everyday-2 (0.83)"),
        ("why", "near-duplicate of everyday-3 (1.00)"),
        ("What is the capital city of Norway, and why?", None),
        ("The quick brown fox jumps over the lazy dog, they say, and so it does all day long.", None),
        ("Why not?", None),
        ("", None),
    ],
)  # fmt: skip
def test_overlap(text: str, overlap: str | None):
    assert INDEX.find_overlap(text) == overlap


def test_looser_settings_find_more():
    loose = OverlapIndex([("test-1", LONG)], similarity=0.8, ngram_words=4)
    assert loose.find_overlap("A quick brown fox jumps high.") == "4 words in a row of test-1"


def test_without_a_number_of_words_only_near_duplicates_count():
    assert OverlapIndex(TEXTS, similarity=0.8).find_overlap(f"He wrote: {LONG}... And then he slept, and dreamt of owls.") is None


@pytest.mark.parametrize(
    ("known", "text"),
    [
        ("挪威最长的河流是哪一条？它流经哪些城市，最后注入哪一片海？", "挪威最长的河流是哪一条，它流经哪些大城市，最后注入哪一片海"),
        ("日本で一番高い山はどこにありますか。標高は何メートルですか。", "日本で一番高い山はどこにありますか、標高は約何メートルですか"),
        ("แม่น้ำสายใดยาวที่สุดในประเทศไทยและไหลผ่านจังหวัดใดบ้าง", "แม่น้ำสายใดที่ยาวที่สุดในประเทศไทย และไหลผ่านจังหวัดใดบ้าง"),
        ("भारत की सबसे लंबी नदी कौन सी है और वह किन राज्यों से होकर बहती है", "भारत की सबसे लंबी नदी कौन सी है, और वह किन राज्यों से होकर बहती है?"),
    ],
)
def test_a_copy_that_differs_in_a_word_is_found_in_every_script(known: str, text: str):
    overlap = OverlapIndex([("test-1", known)], similarity=0.8, ngram_words=13).find_overlap(text)
    assert overlap is not None and "test-1" in overlap


def test_thirteen_letters_without_spaces_are_a_phrase_and_twenty_six_are_a_copy():
    known = "昨天傍晚他们沿着河边的小路走了很久，谈起小时候在乡下放牛、捉鱼、看露天电影的日子，谁也没有提起明天的告别。"
    index = OverlapIndex([("test-1", known)], similarity=0.8, ngram_words=13)
    assert index.find_overlap("春天到了，我们沿着河边的小路走了很久，然后回家做饭，晚饭以后又读了几页书才睡下。") is None
    assert index.find_overlap(f"题目如下，请续写：{known[4:40]}") == "13 words in a row of test-1"


def test_questions_that_differ_in_what_they_ask_are_no_copies_in_chinese_either():
    assert (
        OverlapIndex([("test-1", "挪威的首都是哪座城市？")], similarity=0.8, ngram_words=13).find_overlap("秘鲁的首都是哪座城市？") is None
    )
