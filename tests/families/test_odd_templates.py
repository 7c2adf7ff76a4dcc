"""Templates that need a decision: taken where one can be made, refused by name where not."""

from typing import Any

import pytest
from family_table import CHATML, GEMMA, LLAMA2, QWEN3
from rows import HELLO, NAMED, TURN, learnt, tokenizer
from tokenizers import AddedToken
from zoo import make_tokenizer

from delia_ray.errors import UserError
from delia_ray.models import (
    chat_format,
    prompt_text,
)
from delia_ray.models.template import append_to_prompts, render_template, set_arguments, settle_template


def test_arguments_of_the_template_are_written_into_it():
    made = tokenizer("llama3", NAMED["llama3"].template)
    assert "Today Date: 26 Jul 2024" in prompt_text(made, TURN)
    set_arguments(made, {"date_string": "1 Jan 2030", "unused": None})
    assert "Today Date: 1 Jan 2030" in prompt_text(made, TURN)


ASSISTANT = "'<|im_start|>assistant\n' }}{% if enable"
SHOUTED = "(m['content'] if m['role'] == 'user' else m['content'] | upper)"


@pytest.mark.parametrize(
    ("family", "template", "named"),
    [
        ("qwen3", QWEN3.replace(ASSISTANT, ASSISTANT.replace("assistant\n", "assistant\n<think>\n")), "opens a block of reasoning"),
        ("llama", LLAMA2.replace("{{ bos_token }}", "{{ bos_token + bos_token }}"), "writes '<s>' twice"),
        ("llama", LLAMA2.replace(" + eos_token", ""), "writes no special token after an answer"),
        ("llama", None, "has no chat template"),
        ("llama_tied", CHATML.replace("m['content']", SHOUTED), "opens answers in different ways"),
    ],
    ids=["reasoning first", "two beginnings", "no end", "none", "changed answers"],
)
def test_a_template_that_cannot_be_trained_on_is_refused_by_name(family: str, template: Any, named: str):
    with pytest.raises(UserError, match=rf"m-7b.*{named}"):
        chat_format(tokenizer(family, template), "m-7b")


@pytest.mark.parametrize("roles", [["system", "user", "assistant"], ["user", "user", "assistant"]])
def test_turns_that_a_template_refuses_are_named_with_its_own_words(roles: list[str]):
    made = tokenizer("gemma", GEMMA)
    messages = [{"role": role, "content": "Be brief."} for role in roles]
    with pytest.raises(
        UserError, match=r"task row 'Be brief\.': .* refuses the turns .*: (System role not supported|Conversation roles must)"
    ):
        learnt(made, {**HELLO, "messages": messages})


def test_a_prompt_that_ends_in_a_space_leaves_the_first_word_to_be_learnt():
    spaced = (
        "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '<|im_end|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    )
    assert "".join(text for text, _ in learnt(tokenizer("qwen2", spaced))) == "Hello<|im_end|>"


def test_an_answer_that_swallows_the_end_of_its_turn_is_refused_by_its_row():
    made = make_tokenizer(NAMED["qwen2"])
    made.add_tokens([AddedToken("><|im_end|>", special=False, normalized=False)])
    row = {**HELLO, "messages": [*TURN, {"role": "assistant", "content": "a <b>"}]}
    with pytest.raises(UserError, match=r"task row 'Say hello\.': its answer swallows the token that ends the turn"):
        learnt(made, row)


def test_a_system_turn_that_is_shown_for_the_last_question_only_is_none():
    template = (
        "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}{{ '[INST]' }}"
        "{% if loop.last and messages[0]['role'] == 'system' %}{{ messages[0]['content'] + '\n\n' }}{% endif %}"
        "{{ m['content'] + '[/INST]' }}"
        "{% elif m['role'] == 'assistant' %}{{ m['content'] + eos_token }}{% endif %}{% endfor %}"
    )
    assert not chat_format(tokenizer("llama", template)).takes_system


def test_a_template_whose_code_fails_is_named_with_its_failure():
    with pytest.raises(UserError, match="refuses the turns user"):
        chat_format(tokenizer("llama", "{% for tool in tools %}{{ tool }}{% endfor %}" + LLAMA2), "m-7b")


@pytest.mark.parametrize(
    "begins", ["   {% if true %}{% endif %}", "\n{% if true %}{% endif %}", "  \n  {% if true %}{% endif %}", " ", "{#- a -#}\n"]
)
@pytest.mark.parametrize("ends", ["", "\n", "\r\n", "\n\n", "\n   ", "{% if true %}{% endif %}\n", "{# a #}\n  "])
def test_what_is_settled_in_a_template_leaves_the_rest_of_it_byte_for_byte(begins: str, ends: str):
    given, told = tokenizer("qwen3", begins + QWEN3 + ends), tokenizer("qwen3", begins + QWEN3 + ends)
    set_arguments(told, {"date_string": "1 Jan 2030", "custom": 3})
    alone = given.apply_chat_template(TURN, tokenize=False, add_generation_prompt=True, enable_thinking=False)
    assert alone == prompt_text(given, TURN) == prompt_text(told, TURN)
    settled, _ = settle_template(given)
    for asks in (True, False):
        plain, headed = (render_template(given, each, TURN, prompt=asks) for each in (settled, append_to_prompts(settled, "<h>")))
        assert headed == (f"{plain}<h>" if asks else plain)
