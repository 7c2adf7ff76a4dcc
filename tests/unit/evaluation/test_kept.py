"""Answers outlive a failure to score them."""

from pathlib import Path

import pytest

from delia_ray.evaluation.config import ScoreConfig
from delia_ray.evaluation.kept import Asked, KeptAnswers, drop_kept
from delia_ray.evaluation.scoring import generations
from delia_ray.tasks.formatted import Prompt

PROMPTS = [
    Prompt("a", "test", [{"role": "user", "content": "Why?"}], None, "So."),
    Prompt("b", "ordinary", [{"role": "user", "content": "Hi"}], None, None),
]
ROWS = generations(PROMPTS, ["Because é.", "Hello"], {"b": "Hello"}, {"b": [0.1, 0.2]})
ASKER = {"model": "m1", "base": "b1", "dtype": "bfloat16"}
BASE_ANSWERS = {"b": "Hello"}


def kept(
    out: Path,
    asker: dict[str, str] = ASKER,
    prompts: list[Prompt] = PROMPTS,
    base_answers: dict[str, str] = BASE_ANSWERS,
    config: ScoreConfig | None = None,
) -> KeptAnswers:
    return KeptAnswers(out, asker, prompts, base_answers, config or ScoreConfig())


def never() -> Asked:
    raise AssertionError("it was asked again")


def test_answers_that_were_kept_are_not_asked_for_again_and_come_back_bit_by_bit(tmp_path: Path) -> None:
    out = tmp_path / "scores"
    assert kept(out).or_ask(lambda: (ROWS, 7)) == (ROWS, 7)
    assert kept(out).or_ask(never) == (ROWS, 7)
    assert kept(out, config=ScoreConfig(resamples=1000, seed=3)).or_ask(never) == (ROWS, 7)


@pytest.mark.parametrize(
    "change",
    [
        {"asker": {**ASKER, "model": "m2"}},
        {"asker": {**ASKER, "dtype": "float32"}},
        {"prompts": PROMPTS[:1]},
        {"base_answers": {"b": "Hello there"}},
        {"config": ScoreConfig(max_tokens=7)},
    ],
)
def test_another_model_precision_prompt_answer_of_the_base_or_limit_is_asked_anew(tmp_path: Path, change: dict[str, object]) -> None:
    out = tmp_path / "scores"
    kept(out).or_ask(lambda: (ROWS, 7))
    assert kept(out, **change).or_ask(lambda: (ROWS[:1], 3)) == (ROWS[:1], 3)  # pyright: ignore[reportArgumentType]


def test_an_attempt_that_ends_while_asking_keeps_nothing(tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        kept(tmp_path / "scores").or_ask(never)
    assert list(tmp_path.iterdir()) == []


def test_finished_scores_leave_no_kept_answers(tmp_path: Path) -> None:
    kept(tmp_path / "scores").or_ask(lambda: (ROWS, 7))
    drop_kept(tmp_path / "scores")
    assert list(tmp_path.iterdir()) == []
