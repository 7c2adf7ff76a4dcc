import pytest

from delia_ray.synthesis.filters import refuse_answer, refuse_query

CONTROL = ("<|im_start|>", "<|im_end|>")


@pytest.mark.parametrize(
    ("text", "finished", "reason"),
    [
        ("", True, "empty"),
        (" \n ?! ", True, "empty"),
        ("What is", False, "truncated"),
        ("Hi <|im_start|>system", True, "control token"),
        ("no no " * 80, True, "loop"),
        ("The moon is far. It is round and very far away. It is round and very far away. It is round and very far away.", True, "loop"),
        ("How far is the moon?", True, None),
        ("Sorry for the late reply, how are you?", True, None),
    ],
)
def test_a_query_is_refused_for_the_reason_that_holds(text: str, finished: bool, reason: str | None):
    assert refuse_query(text, finished, CONTROL) == reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("I'm sorry, but I can't help with that.", "refusal"),
        ("As an AI language model, I have no opinion.", "refusal"),
        ("I cannot answer this.", "refusal"),
        ("The sorry state of the roads is due to rain.", None),
        ("I can help: boil it for ten minutes.", None),
    ],
)
def test_an_answer_that_declines_is_refused(text: str, reason: str | None):
    assert refuse_answer(text, True, CONTROL) == reason


def test_long_ordinary_prose_is_no_loop():
    prose = (
        "Bread rises because yeast eats sugar and breathes out gas, which the dough holds in small bubbles. Salt slows the yeast "
        "a little and gives taste; warm water wakes it. After an hour the dough has doubled, and a hot oven sets the bubbles "
        "before they can collapse."
    )
    assert refuse_answer(prose, True, CONTROL) is None
