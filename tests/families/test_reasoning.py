"""Blocks of reasoning: switched off where they can be, taken off answers, and never learnt."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
from family_table import CHATML, QWEN3
from rows import HELLO, NAMED, TURN, learnt, tokenizer
from tokenizers import AddedToken

from delia_ray.errors import UserError
from delia_ray.models import (
    ModelFolder,
    chat_format,
    hides_reasoning,
    prompt_text,
    render,
    without_reasoning,
)
from delia_ray.models.template import set_arguments
from delia_ray.preflight import _check_rendered  # pyright: ignore[reportPrivateUsage]
from delia_ray.records import Message
from delia_ray.synthesis.answering import _judged  # pyright: ignore[reportPrivateUsage]
from delia_ray.synthesis.prompts import control_tokens


def test_a_block_of_reasoning_that_only_answers_have_becomes_part_of_the_prompt():
    made = tokenizer("qwen3", QWEN3.replace("enable_thinking is defined and enable_thinking is false", "false"))
    assert chat_format(made).thinking == "empty block"
    assert prompt_text(made, TURN).endswith("assistant\n<think>\n\n</think>\n\n")
    assert "".join(text for text, _ in learnt(made)) == "Hello<|im_end|>" and learnt(made)[-1] == ("<|im_end|>", "end")


def test_the_switch_of_reasoning_is_off_unless_it_was_set():
    made = tokenizer("qwen3", QWEN3)
    assert chat_format(made).thinking == "off" and prompt_text(made, TURN).endswith("</think>\n\n")
    # Saved with a model, the template is no other.
    made.chat_template = chat_format(made).template
    again = chat_format(made)
    assert (again.thinking, again.template) == ("off", made.chat_template)


def test_reasoning_is_taken_off_an_answer_and_nothing_else():
    assert without_reasoning("<think>\nHm.\n</think>\n\nParis.") == "Paris."
    assert without_reasoning("<think>\nParis, or is it") == ""
    assert without_reasoning("I think <think> is a tag.") == "I think <think> is a tag."


def test_a_prompt_that_leaves_its_reasoning_open_is_refused():
    opened = CHATML.replace("m['content'] + '<|im_end|>", "('<think>\n' if m['role'] == 'assistant' else '') + m['content'] + '<|im_end|>")
    opened = opened.replace("assistant\n' }}{% endif %}", "assistant\n<think>\n' }}{% endif %}")
    with pytest.raises(UserError, match="m-7b opens a block of reasoning in its prompt"):
        chat_format(tokenizer("qwen3", opened), "m-7b")


GEMMA4 = NAMED["gemma4_turns"].template


def test_a_prompt_that_ends_otherwise_than_the_answered_turn_is_what_answers_are_learnt_after():
    made = tokenizer("gemma4_turns", GEMMA4)
    prompt = prompt_text(made, TURN)
    assert prompt.endswith("<|turn>model\n<|channel>thought\n<channel|>") and chat_format(made).thinking == "empty block"
    assert render(made, HELLO["messages"], prompt=False) == f"{prompt}Hello<turn|>\n"
    assert [text for text, _ in learnt(made)][-1] == "<turn|>" and "".join(text for text, _ in learnt(made)) == "Hello<turn|>"
    # Earlier turns are the template's.
    longer: list[Message] = [*HELLO["messages"], *TURN]
    assert prompt_text(made, longer) == made.apply_chat_template(longer, tokenize=False, add_generation_prompt=True)


@pytest.mark.parametrize(("family", "arguments"), [("qwen3", {"enable_thinking": True}), ("gemma4_turns", {"enable_thinking": 1})])
def test_reasoning_that_is_asked_for_is_refused_by_its_key(family: str, arguments: dict[str, Any]):
    made = tokenizer(family, NAMED[family].template)
    with pytest.raises(UserError, match=r"^chat_template_kwargs\.enable_thinking: found (True|1), .*; set it to false or leave it out$"):
        set_arguments(made, arguments)
    set_arguments(made, {"enable_thinking": False})
    assert chat_format(made).thinking != "none"
    set_arguments(plain := tokenizer("qwen2", CHATML), {"enable_thinking": True})  # a template that does not know the switch
    assert chat_format(plain).thinking == "none"


def test_the_blocks_of_reasoning_of_other_models_are_taken_off_too():
    assert without_reasoning("<|channel>thought\nHm.\n<channel|>Paris.") == "Paris."
    assert without_reasoning("[THINK]Hm.[/THINK]\nParis.") == "Paris."
    assert without_reasoning("[THINK]Paris, or is it") == ""
    assert without_reasoning("Write [THINK] first.") == "Write [THINK] first."
    assert hides_reasoning(tokenizer("gemma4_turns", GEMMA4)) and not hides_reasoning(tokenizer("qwen3", QWEN3))


SPLIT = QWEN3.replace("content.lstrip('\n')", "content.split('</think>')[-1].lstrip('\n')")


def test_an_answer_that_the_template_would_change_is_set_aside_before_it_is_learnt(zoo: dict[str, Path], tmp_path: Path):
    made = tokenizer("qwen2", SPLIT)
    made.add_tokens([AddedToken("><|im_end|>", special=False, normalized=False)])
    made.save_pretrained(tmp_path)
    judge: Any = partial(_judged, None, control_tokens(made), ModelFolder(tmp_path, "m"))
    drawn: Any = {"key": 1, "row_id": "x", "finished": True, "prompt_tokens": 1, "answer_tokens": 1, "topic": "", "query": "?", "error": ""}
    answers = ["The sky is blue.", "Close it with </think> and go on.", "It ends in a tag <b>", "<think>Hm.</think>The sky is blue."]
    reasons = [judge({**drawn, "text": answer})["reason"] for answer in answers]
    assert reasons == ["", "changed by the chat template", "changed by the chat template", ""]
    for answer, reason in zip(answers[:3], reasons, strict=False):  # and what is kept can be learnt
        row = {**HELLO, "messages": [*TURN, {"role": "assistant", "content": answer}]}
        if reason:
            with pytest.raises(UserError, match="task row"):
                learnt(made, row)
        else:
            learnt(made, row)


def test_a_task_row_that_the_template_would_change_is_refused_by_its_number():
    rows: Any = [HELLO, {**HELLO, "messages": [*TURN, {"role": "assistant", "content": "So </think> it is."}]}]
    with pytest.raises(UserError, match=r"^task\.train row 2: .* does not put its answer after its prompt as it is; change the row"):
        _check_rendered(tokenizer("qwen2", SPLIT), {"train": rows})
