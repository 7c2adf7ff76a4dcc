"""Unusual chat templates: supported or refused by name."""

from typing import Any

import pytest
from family_table import CHATML, GEMMA, LLAMA2, QWEN3
from rows import FAMILY_BY_NAME, HELLO, TURN, build_tokenizer, list_trained_tokens
from tokenizers import AddedToken
from zoo import build_family_tokenizer

from delia_ray.core.errors import UserError
from delia_ray.models import (
    detect_chat_format,
    render_prompt,
)
from delia_ray.models.template import append_to_generation_prompt, freeze_template, render_template, set_template_arguments


def test_arguments_of_the_template_are_written_into_it():
    tokenizer = build_tokenizer("llama3", FAMILY_BY_NAME["llama3"].template)
    assert "Today Date: 26 Jul 2024" in render_prompt(tokenizer, TURN)
    set_template_arguments(tokenizer, {"date_string": "1 Jan 2030", "unused": None})
    assert "Today Date: 1 Jan 2030" in render_prompt(tokenizer, TURN)


ASSISTANT = "'<|im_start|>assistant\n' }}{% if enable"
SHOUTED = "(m['content'] if m['role'] == 'user' else m['content'] | upper)"


@pytest.mark.parametrize(
    ("family", "template", "message"),
    [
        ("qwen3", QWEN3.replace(ASSISTANT, ASSISTANT.replace("assistant\n", "assistant\n<think>\n")), "opens a block of reasoning"),
        ("llama", LLAMA2.replace("{{ bos_token }}", "{{ bos_token + bos_token }}"), "writes '<s>' twice"),
        ("llama", LLAMA2.replace(" + eos_token", ""), "writes no special token after an answer"),
        ("llama", None, "has no chat template"),
        ("llama_tied", CHATML.replace("m['content']", SHOUTED), "opens answers in different ways"),
    ],
    ids=["open reasoning", "two BOS", "no end of turn", "no template", "changed answers"],
)
def test_a_template_that_cannot_be_trained_on_is_refused_by_name(family: str, template: Any, message: str):
    with pytest.raises(UserError, match=rf"m-7b.*{message}"):
        detect_chat_format(build_tokenizer(family, template), "m-7b")


@pytest.mark.parametrize("roles", [["system", "user", "assistant"], ["user", "user", "assistant"]])
def test_turns_that_a_template_refuses_are_reported_with_its_error(roles: list[str]):
    tokenizer = build_tokenizer("gemma", GEMMA)
    messages = [{"role": role, "content": "Be brief."} for role in roles]
    with pytest.raises(
        UserError, match=r"task row 'Be brief\.': .* refuses the turns .*: (System role not supported|Conversation roles must)"
    ):
        list_trained_tokens(tokenizer, {**HELLO, "messages": messages})


def test_a_prompt_that_ends_in_a_space_keeps_the_first_word_trained():
    spaced = (
        "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '<|im_end|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    )
    assert "".join(text for text, _ in list_trained_tokens(build_tokenizer("qwen2", spaced))) == "Hello<|im_end|>"


def test_an_answer_that_merges_with_the_end_of_turn_is_refused():
    tokenizer = build_family_tokenizer(FAMILY_BY_NAME["qwen2"])
    tokenizer.add_tokens([AddedToken("><|im_end|>", special=False, normalized=False)])
    row = {**HELLO, "messages": [*TURN, {"role": "assistant", "content": "a <b>"}]}
    with pytest.raises(UserError, match=r"task row 'Say hello\.': its answer swallows the end-of-turn token"):
        list_trained_tokens(tokenizer, row)


def test_a_system_turn_that_only_the_last_question_shows_is_not_supported():
    template = (
        "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}{{ '[INST]' }}"
        "{% if loop.last and messages[0]['role'] == 'system' %}{{ messages[0]['content'] + '\n\n' }}{% endif %}"
        "{{ m['content'] + '[/INST]' }}"
        "{% elif m['role'] == 'assistant' %}{{ m['content'] + eos_token }}{% endif %}{% endfor %}"
    )
    assert not detect_chat_format(build_tokenizer("llama", template)).supports_system


def test_a_template_with_an_error_is_refused():
    with pytest.raises(UserError, match="refuses the turns user"):
        detect_chat_format(build_tokenizer("llama", "{% for tool in tools %}{{ tool }}{% endfor %}" + LLAMA2), "m-7b")


@pytest.mark.parametrize("names", [["enable_thinking"], ["thinking"], ["enable_thinking", "thinking"]])
def test_reasoning_is_turned_off_by_whatever_the_template_calls_its_switch(names: list[str]):
    marks = "".join(f"{{% if {name} is not defined or {name} %}}{{{{ '<think {name}>' }}}}{{% endif %}}" for name in names)
    tokenizer = build_tokenizer("qwen3", QWEN3.replace("{% for", marks + "{% for", 1))
    assert "<think" in tokenizer.apply_chat_template(TURN, tokenize=False, add_generation_prompt=True)
    frozen, has_switch = freeze_template(tokenizer)
    assert has_switch and "<think " not in render_template(tokenizer, frozen, TURN, prompt=True)
    tokenizer.chat_template = frozen
    assert freeze_template(tokenizer) == (frozen, True)


@pytest.mark.parametrize(
    "start", ["   {% if true %}{% endif %}", "\n{% if true %}{% endif %}", "  \n  {% if true %}{% endif %}", " ", "{#- a -#}\n"]
)
@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\n\n", "\n   ", "{% if true %}{% endif %}\n", "{# a #}\n  "])
def test_a_frozen_template_renders_the_same_bytes(start: str, end: str):
    plain, configured = build_tokenizer("qwen3", start + QWEN3 + end), build_tokenizer("qwen3", start + QWEN3 + end)
    set_template_arguments(configured, {"date_string": "1 Jan 2030", "custom": 3})
    expected = plain.apply_chat_template(TURN, tokenize=False, add_generation_prompt=True, enable_thinking=False)
    assert expected == render_prompt(plain, TURN) == render_prompt(configured, TURN)
    frozen, _ = freeze_template(plain)
    for prompt in (True, False):
        text, appended = (
            render_template(plain, each, TURN, prompt=prompt) for each in (frozen, append_to_generation_prompt(frozen, "<h>"))
        )
        assert appended == (f"{text}<h>" if prompt else text)
