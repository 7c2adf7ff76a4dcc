"""Render conversations with a model's chat template, as text and as token ids.

All stages render conversations here, so that queries, diverse answers, training rows, evaluation prompts and the exported folder
agree in every token. The rendered template is ``ChatFormat.template``.
"""

from collections.abc import Sequence
from typing import Any

from delia_ray.core.errors import UserError
from delia_ray.core.records import Message
from delia_ray.models.chat_format import PLACEHOLDER, detect_chat_format
from delia_ray.models.encoding import encode
from delia_ray.models.reasoning import REASONING_BLOCKS
from delia_ray.models.template import render_template


def render_conversation(tokenizer: Any, messages: Sequence[Message], *, prompt: bool) -> str:
    """Render the conversation as text; with ``prompt``, including the generation prompt.

    Raises:
        UserError: the template raises an error for these turns, or changes the text of the last answer.
    """
    chat_format = detect_chat_format(tokenizer)
    text = render_template(tokenizer, chat_format.template, messages, prompt=prompt)
    if prompt or not chat_format.is_joined or messages[-1]["role"] != "assistant":
        return text
    answer = messages[-1]["content"].strip()
    if not text.endswith(answer + chat_format.answer_suffix):
        raise UserError("the model's chat template does not write its answer as it is")
    return render_prompt(tokenizer, messages[:-1]) + answer + chat_format.answer_suffix


def render_prompt(tokenizer: Any, messages: Sequence[Message]) -> str:
    """Render the conversation with the generation prompt."""
    return render_conversation(tokenizer, messages, prompt=True)


def encode_prompt(tokenizer: Any, messages: Sequence[Message]) -> list[int]:
    """Render the conversation with the generation prompt, as token ids."""
    return encode(tokenizer, [render_prompt(tokenizer, messages)])[0].ids


def find_answer(prompt: str, text: str, answer: str) -> int | None:
    """Return the index of ``answer`` in the rendered conversation ``text``; None if it does not directly follow ``prompt``, unchanged."""
    start = text.find(answer, len(prompt)) if text.startswith(prompt) else -1
    return None if start < 0 or text[len(prompt) : start].strip() else start


def is_answer_preserved(tokenizer: Any, query: str, answer: str) -> bool:
    """Whether the template renders ``answer`` unchanged, followed by a separate end-of-turn token, so that it can be trained on.

    Templates remove text that looks like their own reasoning (everything up to a ``</think>``), and a vocabulary can contain a token
    that merges the end of an answer with the end of turn.
    """
    turns: list[Message] = [{"role": "user", "content": query}, {"role": "assistant", "content": answer}]
    try:
        prompt, text = render_conversation(tokenizer, turns[:-1], prompt=True), render_conversation(tokenizer, turns, prompt=False)
    except UserError:
        return False
    answer_start = find_answer(prompt, text, answer.strip())
    if answer_start is None:
        return False
    encoding, answer_end = encode(tokenizer, [text])[0], answer_start + len(answer.strip())
    end_of_turn_id = detect_chat_format(tokenizer).end_of_turn_id
    return any(token == end_of_turn_id and start >= answer_end for token, (start, _) in zip(encoding.ids, encoding.offsets, strict=True))


def add_system_turn(tokenizer: Any, system: str | None, messages: Sequence[Message]) -> list[Message]:
    """Prepend a system turn to ``messages``; if the template does not support one, prepend its text to the first user turn."""
    if system is None:
        return list(messages)
    if detect_chat_format(tokenizer).supports_system:
        return [{"role": "system", "content": system}, *messages]
    first, *others = messages
    return [{"role": first["role"], "content": f"{system}\n\n{first['content']}"}, *others]


def render_user_turn_prefix(tokenizer: Any, system: str) -> str:
    """Render a system turn up to the start of the user's text (Magpie, Xu et al., arXiv 2406.08464)."""
    turns = add_system_turn(tokenizer, system, [{"role": "user", "content": PLACEHOLDER}])
    return render_conversation(tokenizer, turns, prompt=False).partition(PLACEHOLDER)[0]


def find_user_turn_stops(tokenizer: Any) -> dict[str, Any]:
    """Return vLLM's sampling parameters ``stop`` and ``stop_token_ids`` that end a generated user turn."""
    chat_format = detect_chat_format(tokenizer)
    marker = chat_format.user_turn_suffix.strip()
    ids = encode(tokenizer, [marker])[0].ids[:1] if marker else []
    if ids and tokenizer.convert_ids_to_tokens(ids[0]) in chat_format.control_tokens:
        return {"stop": [], "stop_token_ids": sorted({*ids, chat_format.end_of_turn_id})}
    return {"stop": marker.split()[:1], "stop_token_ids": [chat_format.end_of_turn_id]}


def has_special_reasoning_tokens(tokenizer: Any) -> bool:
    """Whether reasoning blocks are delimited by special tokens, which engines omit from text by default (``skip_special_tokens``)."""
    special = {added.content for added in tokenizer.added_tokens_decoder.values() if added.special}
    return any(delimiter.startswith(token) for token in special for block in REASONING_BLOCKS for delimiter in block)


def find_stop_token_ids(tokenizer: Any, declared: int | Sequence[int] | None) -> list[int]:
    """Return the token ids that end an answer: the generation config's, the tokenizer's EOS, and the template's end of turn."""
    ids = [declared] if isinstance(declared, int) else list(declared or ())
    if tokenizer.chat_template:
        ids.append(detect_chat_format(tokenizer).end_of_turn_id)
    return sorted({*ids, tokenizer.eos_token_id} - {None})
