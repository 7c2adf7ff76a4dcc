"""Reasoning blocks: turned off if possible, removed from answers, and never trained on."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
from family_table import CHATML, QWEN3
from rows import FAMILY_BY_NAME, HELLO, TURN, build_tokenizer, list_trained_tokens
from tokenizers import AddedToken

from delia_ray.core.errors import UserError
from delia_ray.core.records import Message
from delia_ray.models import (
    ModelFolder,
    detect_chat_format,
    has_special_reasoning_tokens,
    render_conversation,
    render_prompt,
    strip_reasoning,
)
from delia_ray.models.template import set_template_arguments
from delia_ray.pipeline.validate import _check_rendered  # pyright: ignore[reportPrivateUsage]
from delia_ray.synthesis.answers_stage import _filter_answer  # pyright: ignore[reportPrivateUsage]
from delia_ray.synthesis.prompts import control_tokens


def test_an_empty_reasoning_block_of_answers_becomes_part_of_the_prompt():
    tokenizer = build_tokenizer("qwen3", QWEN3.replace("enable_thinking is defined and enable_thinking is false", "false"))
    assert detect_chat_format(tokenizer).thinking == "empty block"
    assert render_prompt(tokenizer, TURN).endswith("assistant\n<think>\n\n</think>\n\n")
    assert "".join(text for text, _ in list_trained_tokens(tokenizer)) == "Hello<|im_end|>" and list_trained_tokens(tokenizer)[-1] == (
        "<|im_end|>",
        "end",
    )


def test_reasoning_is_turned_off_by_the_template_switch():
    tokenizer = build_tokenizer("qwen3", QWEN3)
    assert detect_chat_format(tokenizer).thinking == "off" and render_prompt(tokenizer, TURN).endswith("</think>\n\n")
    # The template that is saved with a model is unchanged.
    tokenizer.chat_template = detect_chat_format(tokenizer).template
    reloaded = detect_chat_format(tokenizer)
    assert (reloaded.thinking, reloaded.template) == ("off", tokenizer.chat_template)


def test_only_a_leading_reasoning_block_is_removed():
    assert strip_reasoning("<think>\nHm.\n</think>\n\nParis.") == "Paris."
    assert strip_reasoning("<think>\nParis, or is it") == ""
    assert strip_reasoning("I think <think> is a tag.") == "I think <think> is a tag."


def test_a_prompt_with_open_reasoning_is_refused():
    template = CHATML.replace(
        "m['content'] + '<|im_end|>", "('<think>\n' if m['role'] == 'assistant' else '') + m['content'] + '<|im_end|>"
    )
    template = template.replace("assistant\n' }}{% endif %}", "assistant\n<think>\n' }}{% endif %}")
    with pytest.raises(UserError, match="m-7b opens a block of reasoning in its prompt"):
        detect_chat_format(build_tokenizer("qwen3", template), "m-7b")


GEMMA4 = FAMILY_BY_NAME["gemma4_turns"].template


def test_answers_are_trained_after_the_prompt_even_if_the_template_renders_an_answered_turn_differently():
    tokenizer = build_tokenizer("gemma4_turns", GEMMA4)
    prompt = render_prompt(tokenizer, TURN)
    assert prompt.endswith("<|turn>model\n<|channel>thought\n<channel|>") and detect_chat_format(tokenizer).thinking == "empty block"
    assert render_conversation(tokenizer, HELLO["messages"], prompt=False) == f"{prompt}Hello<turn|>\n"
    assert [text for text, _ in list_trained_tokens(tokenizer)][-1] == "<turn|>" and "".join(
        text for text, _ in list_trained_tokens(tokenizer)
    ) == "Hello<turn|>"
    # Earlier turns are rendered by the template.
    longer: list[Message] = [*HELLO["messages"], *TURN]
    assert render_prompt(tokenizer, longer) == tokenizer.apply_chat_template(longer, tokenize=False, add_generation_prompt=True)


@pytest.mark.parametrize(("family", "arguments"), [("qwen3", {"enable_thinking": True}), ("gemma4_turns", {"enable_thinking": 1})])
def test_turning_on_reasoning_is_refused(family: str, arguments: dict[str, Any]):
    tokenizer = build_tokenizer(family, FAMILY_BY_NAME[family].template)
    with pytest.raises(UserError, match=r"^chat_template_kwargs\.enable_thinking: found (True|1), .*; set it to false or leave it out$"):
        set_template_arguments(tokenizer, arguments)
    set_template_arguments(tokenizer, {"enable_thinking": False})
    assert detect_chat_format(tokenizer).thinking != "none"
    set_template_arguments(plain := build_tokenizer("qwen2", CHATML), {"enable_thinking": True})  # a template without the switch
    assert detect_chat_format(plain).thinking == "none"


def test_reasoning_blocks_of_other_models_are_removed():
    assert strip_reasoning("<|channel>thought\nHm.\n<channel|>Paris.") == "Paris."
    assert strip_reasoning("[THINK]Hm.[/THINK]\nParis.") == "Paris."
    assert strip_reasoning("[THINK]Paris, or is it") == ""
    assert strip_reasoning("Write [THINK] first.") == "Write [THINK] first."
    assert has_special_reasoning_tokens(build_tokenizer("gemma4_turns", GEMMA4)) and not has_special_reasoning_tokens(
        build_tokenizer("qwen3", QWEN3)
    )


SPLIT = QWEN3.replace("content.lstrip('\n')", "content.split('</think>')[-1].lstrip('\n')")


def test_an_answer_that_the_template_would_change_is_rejected(zoo: dict[str, Path], tmp_path: Path):
    tokenizer = build_tokenizer("qwen2", SPLIT)
    tokenizer.add_tokens([AddedToken("><|im_end|>", special=False, normalized=False)])
    tokenizer.save_pretrained(tmp_path)
    answer_filter: Any = partial(_filter_answer, None, control_tokens(tokenizer), ModelFolder(tmp_path, "m"))
    result: Any = {
        "key": 1,
        "row_id": "x",
        "finished": True,
        "prompt_tokens": 1,
        "answer_tokens": 1,
        "topic": "",
        "query": "?",
        "error": "",
    }
    answers = ["The sky is blue.", "Close it with </think> and go on.", "It ends in a tag <b>", "<think>Hm.</think>The sky is blue."]
    reasons = [answer_filter({**result, "text": answer})["reason"] for answer in answers]
    assert reasons == ["", "changed by the chat template", "changed by the chat template", ""]
    for answer, reason in zip(answers[:3], reasons, strict=False):  # kept answers can be trained on
        row = {**HELLO, "messages": [*TURN, {"role": "assistant", "content": answer}]}
        if reason:
            with pytest.raises(UserError, match="task row"):
                list_trained_tokens(tokenizer, row)
        else:
            list_trained_tokens(tokenizer, row)


def test_a_task_row_that_the_template_would_change_is_refused():
    rows: Any = [HELLO, {**HELLO, "messages": [*TURN, {"role": "assistant", "content": "So </think> it is."}]}]
    with pytest.raises(UserError, match=r"^task\.train row 2: .* does not put its answer after its prompt as it is; change the row"):
        _check_rendered(build_tokenizer("qwen2", SPLIT), {"train": rows})
