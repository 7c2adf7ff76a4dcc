import pytest

from delia_ray.core.text.rouge import rouge_l
from delia_ray.rewriting.wording_filter import SHAPE_WORDS, Accepted, Rejected, WordingFilter

FORBIDDEN = (*SHAPE_WORDS, "thought", "hallucination", "yes", "no")


def make_filter(max_similarity: float = 0.8) -> WordingFilter:
    return WordingFilter("<sep>", FORBIDDEN, max_similarity)


def find_reason(wording: str) -> str | None:
    result = make_filter().check(wording)
    return result.reason if isinstance(result, Rejected) else None


@pytest.mark.parametrize(
    "wording",
    [
        "Use <sep> and say yes if it holds.",
        "Use <sep>: YES if it holds.",
        "Use <sep>, with your thought first.",
        "Use <sep> and look for hallucinations.",
        "Use <sep> to fill in has_hallucination.",
        "Follow <sep> and answer in Json.",
        "Follow <sep>, a dictionary of two parts.",
        "Follow <sep> with both keys.",
        "Follow <sep> like {this} one.",
    ],
)
def test_a_wording_that_leaks_the_meaning_is_rejected(wording: str) -> None:
    assert find_reason(wording) == "leak"


@pytest.mark.parametrize(
    "wording", ["Now follow <sep> for the answer.", "Be thoughtful and follow <sep> to the keyhole.", "Do nothing but <sep>."]
)
def test_words_that_only_contain_a_forbidden_word_pass(wording: str) -> None:
    assert find_reason(wording) is None


def test_the_token_may_itself_be_a_forbidden_word() -> None:
    assert WordingFilter("[JSON]", FORBIDDEN, 0.8).check("Follow [JSON] for the answer.") == Accepted("Follow [JSON] for the answer.")


def test_a_task_without_a_token_still_has_its_leaks_rejected() -> None:
    tokenless = WordingFilter("", FORBIDDEN, 0.8)
    assert isinstance(tokenless.check("Look over the answer above."), Accepted)
    assert isinstance(tokenless.check("Say yes if the reply holds."), Rejected)


@pytest.mark.parametrize("wording", ["Look over the answer above.", "Follow <SEP> for the answer.", "Follow sep for the answer."])
def test_a_wording_without_the_literal_token_is_rejected(wording: str) -> None:
    assert find_reason(wording) == "placeholder"


def test_a_wording_of_two_lines_is_rejected() -> None:
    assert find_reason("Follow <sep> for\nthe answer above.") == "lines"


@pytest.mark.parametrize("wording", ["", "Use <sep>.", "<sep> " + "very " * 60])
def test_wordings_too_short_or_too_long_are_rejected(wording: str) -> None:
    assert find_reason(wording) == "length"


def test_a_near_copy_of_any_earlier_wording_is_refused_and_the_copy_named() -> None:
    wording_filter = make_filter()
    first = "Please follow <sep> for the answer given above."
    assert isinstance(wording_filter.check(first), Accepted)
    assert isinstance(wording_filter.check("What would <sep> say about this exchange?"), Accepted)
    result = wording_filter.check("please follow `<sep>` for the reply given above")
    assert isinstance(result, Rejected)
    assert result.reason == "similarity"
    assert first in result.detail


def test_a_rejected_wording_does_not_restrict_later_ones() -> None:
    wording_filter = make_filter()
    assert isinstance(wording_filter.check("Follow <sep> for the answer, yes."), Rejected)
    assert isinstance(wording_filter.check("Follow <sep> for the answer."), Accepted)


def test_similarity_equal_to_the_bound_is_rejected() -> None:
    five, other = "follow <sep> for answer one", "follow <sep> for answer two"
    assert rouge_l(five, other) == pytest.approx(0.8)
    wording_filter = make_filter(0.8)
    wording_filter.check(five)
    assert isinstance(wording_filter.check(other), Rejected)


def test_rouge_l_is_twice_the_common_subsequence_over_both_lengths() -> None:
    # Lin (2004), section 3.2: "police killed the gunman" and "the gunman kill police" share "the gunman".
    assert rouge_l("police killed the gunman", "the gunman kill police") == pytest.approx(2 * 2 / (4 + 4))
    assert rouge_l("Use <sep>, please!", "use `<sep>` please") == 1.0


@pytest.mark.parametrize(
    ("wording", "reason"),
    [
        ("请按照<sep>用JSON作答。", "leak"),
        ("请把上面的话译成冰岛语<sep>。", "leak"),
        ("ऊपर के वाक्य को <sep> हिन्दी में लिखो।", "leak"),
        ("ऊपर के वाक्य को <sep> हिन्दीतर ढंग से लिखो।", None),
        ("请对上面的内容使用<sep>。", None),
        ("<sep>好", "length"),
        ("".join(map(chr, range(0x4E00, 0x4E00 + 121))) + "<sep>", "length"),
    ],
)
def test_wordings_in_any_script_pass_the_same_filter(wording: str, reason: str | None) -> None:
    result = WordingFilter("<sep>", ("JSON", "冰岛语", "हिन्दी"), 0.8).check(wording)
    assert (result.reason if isinstance(result, Rejected) else None) == reason


def test_a_near_copy_without_spaces_is_rejected() -> None:
    wording_filter = WordingFilter("<sep>", (), 0.8)
    assert isinstance(wording_filter.check("请对上面的问答使用<sep>。"), Accepted)
    assert isinstance(wording_filter.check("请对上面的问答再使用<sep>。"), Rejected)
