from collections.abc import Callable
from itertools import count, islice

import pytest

from delia_ray.core.errors import UserError
from delia_ray.rewriting.model_writer import ModelWriter, extract_wording
from delia_ray.rewriting.wording_filter import WordingFilter
from delia_ray.rewriting.wordings import collect


@pytest.mark.parametrize(
    ("text", "wording"),
    [
        ("Use <sep> here.", "Use <sep> here."),
        ("\n\n  Use <sep> here.  \nThis keeps the token.", "Use <sep> here."),
        ('"Use <sep> here."', "Use <sep> here."),
        ("“Use <sep> here.”", "Use <sep> here."),
        ("1. Use <sep> here.\n2. Follow <sep> here.", "Use <sep> here."),
        ("- **Use <sep> here.**", "Use <sep> here."),
        ("Sure! Here is a paraphrase:\n\n'Use <sep> here.'", "Use <sep> here."),
        ("Here is one that keeps <sep>:\nUse <sep> here.", "Use <sep> here."),
        ('Rewritten instruction: "Use <sep> here."', "Use <sep> here."),
        ("Certainly.\nUse <sep> here.", "Use <sep> here."),
        ('"Use "<sep>" here."', 'Use "<sep>" here.'),
        ('"Here, use "<sep>""', 'Here, use "<sep>"'),
        ("`<sep>` is what I need, as in `<sep>`", "`<sep>` is what I need, as in `<sep>`"),
        ("As <sep> says in its instruction: go on.", "As <sep> says in its instruction: go on."),
        ("I cannot do that.", "I cannot do that."),
        (" \n ", ""),
    ],
)
def test_the_wording_is_found_in_what_a_model_writes_around_it(text: str, wording: str) -> None:
    assert extract_wording(text, "<sep>") == wording


def test_a_task_without_a_token_is_handled_alike_and_its_prompt_asks_to_keep_none() -> None:
    prompts: list[str] = []

    def complete(prompt: str, seed: int) -> str:
        prompts.append(prompt)
        return 'Sure:\n1. Rewritten instruction: "Look over the answer."'

    tokenless = ModelWriter(complete, "Check the answer.", "", attempts_per_wording=1, seed=0)
    assert list(tokenless.propose(1)) == ["Look over the answer."]
    assert "exactly as it is written" not in prompts[0]


def make_writer(complete: Callable[[str, int], str], attempts: int = 2, seed: int = 0) -> ModelWriter:
    return ModelWriter(complete, "Check it with <sep>.", "<sep>", attempts_per_wording=attempts, seed=seed)


def test_the_prompt_shows_the_instruction_and_asks_for_many_styles() -> None:
    prompts: list[str] = []

    def complete(prompt: str, seed: int) -> str:
        prompts.append(prompt)
        return ""

    list(make_writer(complete).propose(6))
    assert all("Check it with <sep>." in prompt for prompt in prompts)
    assert len(set(prompts)) == 12


def test_attempts_are_bounded_and_spent_only_when_needed() -> None:
    calls = count()

    def complete(prompt: str, seed: int) -> str:
        return f"Use <sep> {next(calls)}."

    assert len(list(islice(make_writer(complete, attempts=3).propose(5), 4))) == 4
    assert next(calls) == 4
    assert len(list(make_writer(complete, attempts=3).propose(5))) == 15


def test_every_attempt_has_its_own_seed_and_the_same_one_in_every_run() -> None:
    def echo_seed(prompt: str, seed: int) -> str:
        assert 0 <= seed < 2**31
        return f"Use <sep> {seed}."

    first = list(make_writer(echo_seed).propose(10))
    assert first == list(make_writer(echo_seed).propose(10))
    assert len(set(first)) == 20
    assert not set(first) & set(make_writer(echo_seed, seed=1).propose(10))


def test_a_model_that_repeats_itself_runs_dry_with_an_error() -> None:
    with pytest.raises(UserError, match="2 of 3 wordings are missing"):
        collect(
            make_writer(lambda prompt, seed: "Follow <sep> for the answer above."),
            WordingFilter("<sep>", (), 0.8),
            train=1,
            dev=1,
            test=1,
            seed=0,
        )
