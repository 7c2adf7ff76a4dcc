"""The answer cache keeps answers when their scoring fails."""

from pathlib import Path

import pytest

from delia_ray.evaluation.answer_cache import AnswerCache, CachedAnswers, remove_cached_answers
from delia_ray.evaluation.config import ScoreConfig
from delia_ray.evaluation.scoring import build_generations
from delia_ray.tasks.format_task import Prompt

PROMPTS = [
    Prompt("a", "test", [{"role": "user", "content": "Why?"}], None, "So."),
    Prompt("b", "ordinary", [{"role": "user", "content": "Hi"}], None, None),
]
ROWS = build_generations(PROMPTS, ["Because é.", "Hello"], {"b": "Hello"}, {"b": [0.1, 0.2]})
SOURCE = {"model": "m1", "base": "b1", "dtype": "bfloat16"}
BASE_ANSWERS = {"b": "Hello"}


def make_cache(
    out: Path,
    source: dict[str, str] = SOURCE,
    prompts: list[Prompt] = PROMPTS,
    base_answers: dict[str, str] = BASE_ANSWERS,
    config: ScoreConfig | None = None,
) -> AnswerCache:
    return AnswerCache(out, source, prompts, base_answers, config or ScoreConfig())


def fail() -> CachedAnswers:
    raise AssertionError("it was asked again")


def test_cached_answers_are_not_generated_again_and_are_returned_unchanged(tmp_path: Path) -> None:
    out = tmp_path / "scores"
    assert make_cache(out).get_or_ask(lambda: (ROWS, 7)) == (ROWS, 7)
    assert make_cache(out).get_or_ask(fail) == (ROWS, 7)
    assert make_cache(out, config=ScoreConfig(resamples=1000, seed=3)).get_or_ask(fail) == (ROWS, 7)


@pytest.mark.parametrize(
    "change",
    [
        {"source": {**SOURCE, "model": "m2"}},
        {"source": {**SOURCE, "dtype": "float32"}},
        {"prompts": PROMPTS[:1]},
        {"base_answers": {"b": "Hello there"}},
        {"config": ScoreConfig(max_tokens=7)},
    ],
)
def test_another_model_precision_prompt_answer_of_the_base_or_limit_misses_the_cache(tmp_path: Path, change: dict[str, object]) -> None:
    out = tmp_path / "scores"
    make_cache(out).get_or_ask(lambda: (ROWS, 7))
    assert make_cache(out, **change).get_or_ask(lambda: (ROWS[:1], 3)) == (ROWS[:1], 3)  # pyright: ignore[reportArgumentType]


def test_an_attempt_that_fails_before_the_last_answer_caches_nothing(tmp_path: Path) -> None:
    with pytest.raises(AssertionError):
        make_cache(tmp_path / "scores").get_or_ask(fail)
    assert list(tmp_path.iterdir()) == []


def test_finished_scores_leave_no_cached_answers(tmp_path: Path) -> None:
    make_cache(tmp_path / "scores").get_or_ask(lambda: (ROWS, 7))
    remove_cached_answers(tmp_path / "scores")
    assert list(tmp_path.iterdir()) == []
