import pytest

from delia_ray.rewriting.gate import SHAPE_WORDS, Admitted, Gate, Refused
from delia_ray.rouge import rouge_l

FORBIDDEN = (*SHAPE_WORDS, "thought", "hallucination", "yes", "no")


def gate(max_similarity: float = 0.8) -> Gate:
    return Gate("<sep>", FORBIDDEN, max_similarity)


def reason(wording: str) -> str | None:
    verdict = gate().admit(wording)
    return verdict.reason if isinstance(verdict, Refused) else None


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
def test_a_wording_that_gives_the_meaning_away_is_refused(wording: str) -> None:
    assert reason(wording) == "leak"


@pytest.mark.parametrize(
    "wording", ["Now follow <sep> for the answer.", "Be thoughtful and follow <sep> to the keyhole.", "Do nothing but <sep>."]
)
def test_words_that_only_contain_a_forbidden_word_pass(wording: str) -> None:
    assert reason(wording) is None


def test_the_token_may_itself_be_a_forbidden_word() -> None:
    assert Gate("[JSON]", FORBIDDEN, 0.8).admit("Follow [JSON] for the answer.") == Admitted("Follow [JSON] for the answer.")


def test_a_task_without_a_token_still_has_its_leaks_refused() -> None:
    tokenless = Gate("", FORBIDDEN, 0.8)
    assert isinstance(tokenless.admit("Look over the answer above."), Admitted)
    assert isinstance(tokenless.admit("Say yes if the reply holds."), Refused)


@pytest.mark.parametrize("wording", ["Look over the answer above.", "Follow <SEP> for the answer.", "Follow sep for the answer."])
def test_a_wording_without_the_literal_token_is_refused(wording: str) -> None:
    assert reason(wording) == "placeholder"


def test_a_wording_of_two_lines_is_refused() -> None:
    assert reason("Follow <sep> for\nthe answer above.") == "lines"


@pytest.mark.parametrize("wording", ["", "Use <sep>.", "<sep> " + "very " * 60])
def test_wordings_too_short_or_too_long_are_refused(wording: str) -> None:
    assert reason(wording) == "length"


def test_a_near_copy_of_any_earlier_wording_is_refused_and_the_copy_named() -> None:
    strict = gate()
    first = "Please follow <sep> for the answer given above."
    assert isinstance(strict.admit(first), Admitted)
    assert isinstance(strict.admit("What would <sep> say about this exchange?"), Admitted)
    verdict = strict.admit("please follow `<sep>` for the reply given above")
    assert isinstance(verdict, Refused)
    assert verdict.reason == "similarity"
    assert first in verdict.detail


def test_a_refused_wording_does_not_narrow_the_gate() -> None:
    strict = gate()
    assert isinstance(strict.admit("Follow <sep> for the answer, yes."), Refused)
    assert isinstance(strict.admit("Follow <sep> for the answer."), Admitted)


def test_similarity_equal_to_the_bound_is_refused() -> None:
    five, other = "follow <sep> for answer one", "follow <sep> for answer two"
    assert rouge_l(five, other) == pytest.approx(0.8)
    strict = gate(0.8)
    strict.admit(five)
    assert isinstance(strict.admit(other), Refused)


def test_rouge_l_is_twice_the_common_subsequence_over_both_lengths() -> None:
    # Lin (2004), section 3.2: "police killed the gunman" and "the gunman kill police" share "the gunman".
    assert rouge_l("police killed the gunman", "the gunman kill police") == pytest.approx(2 * 2 / (4 + 4))
    assert rouge_l("Use <sep>, please!", "use `<sep>` please") == 1.0


@pytest.mark.parametrize(
    ("wording", "refused"),
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
def test_wordings_in_any_script_pass_the_same_gate(wording: str, refused: str | None) -> None:
    verdict = Gate("<sep>", ("JSON", "冰岛语", "हिन्दी"), 0.8).admit(wording)
    assert (verdict.reason if isinstance(verdict, Refused) else None) == refused


def test_a_near_copy_without_spaces_is_refused() -> None:
    admitted = Gate("<sep>", (), 0.8)
    assert isinstance(admitted.admit("请对上面的问答使用<sep>。"), Admitted)
    assert isinstance(admitted.admit("请对上面的问答再使用<sep>。"), Refused)
