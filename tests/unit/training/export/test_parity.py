from dataclasses import replace

import pytest

from delia_ray.training.export.greedy import Answer, ReferenceAnswer
from delia_ray.training.export.parity import compare

STOP, TOKEN = 0, 9
REFERENCE = ReferenceAnswer(
    prompt_ids=[1, TOKEN, 2],
    ids=[5, 6, STOP],
    logprobs=[-0.1, -0.2, -0.3],
    candidates=[{5: -0.1, 7: -0.105}, {6: -0.2, 8: -3.0}, {0: -0.3}],
)
ANSWER = Answer([1, TOKEN, 2], [5, 6, STOP], [-0.1, -0.201, -0.3])


def parity(*answers: Answer, dtype: str = "float32"):
    return compare([REFERENCE] * len(answers), answers, [TOKEN], dtype, str)


def test_equal_answers_have_no_fault():
    found = parity(ANSWER, ANSWER)
    assert (found.prompts, found.with_token, found.equal, found.ties, found.tokens, found.faults) == (2, 2, 2, 0, 6, ())
    assert found.largest_difference == pytest.approx(0.001) and found.mean_difference == pytest.approx(0.001 / 3)
    assert found.to_json()["equal"] == 2 and "faults" not in found.to_json()


def test_tokens_whose_probabilities_are_tied_are_no_fault():
    found = parity(replace(ANSWER, ids=[7, 6, STOP], logprobs=[-0.104, -0.2, -0.3]))
    assert (found.equal, found.ties, found.tokens, found.faults) == (0, 1, 0, ())


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (replace(ANSWER, ids=[5, 8, STOP]), "vLLM wrote '[5, 8, 0]'"),
        (replace(ANSWER, ids=[5, 3, STOP]), "vLLM wrote '[5, 3, 0]'"),
        (replace(ANSWER, ids=[5, 6, STOP, 4], logprobs=[-0.1, -0.2, -0.3, -1.0]), "vLLM wrote '[5, 6, 0, 4]'"),
        (replace(ANSWER, ids=[5, 6], logprobs=[-0.1, -0.2]), "vLLM wrote '[5, 6]'"),
        (replace(ANSWER, prompt_ids=[1, 2]), "renders a conversation as '[1, 2]'"),
        (replace(ANSWER, logprobs=[-0.2, -0.3, -0.4]), "differ by 0.100 nats on average, where rounding explains 0.01"),
        (replace(ANSWER, logprobs=[-0.1, -0.2, float("nan")]), "differ by nan nats"),
    ],
    ids=["another token", "an unlikely token", "no stop", "an early stop", "another chat template", "other probabilities", "none"],
)
def test_what_rounding_does_not_explain_is_a_fault(answer: Answer, said: str):
    found = parity(answer)
    assert len(found.faults) == 1 and said in found.faults[0]


def test_less_precision_explains_more():
    assert parity(replace(ANSWER, logprobs=[-0.2, -0.3, -0.4]), dtype="bfloat16").faults == ()


def test_quantized_weights_explain_another_token_that_is_near_but_not_any():
    near = replace(ANSWER, ids=[5, 8, STOP])
    assert parity(near).faults and parity(near, dtype="fp8").ties == 1 and parity(near, dtype="fp8").faults == ()
    assert parity(replace(ANSWER, ids=[5, 3, STOP]), dtype="fp8").faults
