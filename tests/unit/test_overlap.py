import pytest

from delia_ray.overlap import OverlapIndex

LONG = "The quick brown fox jumps over the lazy dog while seven wise owls look on from above"
SHORT = "What is the capital city of Iceland?"
TEXTS = [("test-1", LONG), ("everyday-2", SHORT), ("everyday-3", "Why?")]
INDEX = OverlapIndex(TEXTS, similarity=0.8, ngram_words=13)


@pytest.mark.parametrize(
    ("text", "found"),
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
def test_overlap(text: str, found: str | None):
    assert INDEX.overlap(text) == found


def test_looser_settings_find_more():
    loose = OverlapIndex([("test-1", LONG)], similarity=0.8, ngram_words=4)
    assert loose.overlap("A quick brown fox jumps high.") == "4 words in a row of test-1"


def test_without_a_number_of_words_only_near_duplicates_count():
    assert OverlapIndex(TEXTS, similarity=0.8).overlap(f"He wrote: {LONG}... And then he slept, and dreamt of owls.") is None
