"""A conversation as text and as token ids.

Everything that renders a conversation goes through here, so that queries, diverse answers, training rows, scored prompts and the
exported folder agree to the token. The template is rendered as ``ChatFormat.template``.
"""

from collections.abc import Sequence
from typing import Any

from delia_ray.errors import UserError
from delia_ray.models.chat_format import MARK, chat_format
from delia_ray.models.encoding import encode
from delia_ray.models.reasoning import BLOCKS
from delia_ray.models.template import render_template
from delia_ray.records import Message


def render(tokenizer: Any, messages: Sequence[Message], *, prompt: bool) -> str:
    """The conversation as text; as a ``prompt``, up to where the assistant starts to write.

    Raises:
        UserError: the template refuses these turns, or does not write the last answer as it is.
    """
    known = chat_format(tokenizer)
    text = render_template(tokenizer, known.template, messages, prompt=prompt)
    if prompt or not known.is_joined or messages[-1]["role"] != "assistant":
        return text
    answer = messages[-1]["content"].strip()
    if not text.endswith(answer + known.tail):
        raise UserError("the model's chat template does not write its answer as it is")
    return prompt_text(tokenizer, messages[:-1]) + answer + known.tail


def prompt_text(tokenizer: Any, messages: Sequence[Message]) -> str:
    """The conversation rendered up to where the assistant starts to write."""
    return render(tokenizer, messages, prompt=True)


def prompt_ids(tokenizer: Any, messages: Sequence[Message]) -> list[int]:
    """Token ids of a conversation up to where the assistant starts to write."""
    return encode(tokenizer, [prompt_text(tokenizer, messages)])[0].ids


def answer_place(prompt: str, text: str, answer: str) -> int | None:
    """Where ``answer`` begins in ``text``, the whole conversation; None where it does not stand right after ``prompt`` as it is."""
    place = text.find(answer, len(prompt)) if text.startswith(prompt) else -1
    return None if place < 0 or text[len(prompt) : place].strip() else place


def keeps_answer(tokenizer: Any, query: str, answer: str) -> bool:
    """Whether the template writes ``answer`` to ``query`` as it is, followed by the token that ends the turn, so that it can be learnt.

    Templates take off what looks like their own reasoning (all up to a ``</think>``), and vocabularies may hold a token that an answer's
    end and the end of turn make up together.
    """
    turns: list[Message] = [{"role": "user", "content": query}, {"role": "assistant", "content": answer}]
    try:
        prompt, text = render(tokenizer, turns[:-1], prompt=True), render(tokenizer, turns, prompt=False)
    except UserError:
        return False
    place = answer_place(prompt, text, answer.strip())
    if place is None:
        return False
    encoding, end = encode(tokenizer, [text])[0], place + len(answer.strip())
    known = chat_format(tokenizer)
    return any(token == known.end_of_turn_id and start >= end for token, (start, _) in zip(encoding.ids, encoding.offsets, strict=True))


def with_system(tokenizer: Any, system: str | None, messages: Sequence[Message]) -> list[Message]:
    """``messages`` under a system turn; where the template takes none, its text opens the first user turn."""
    if system is None:
        return list(messages)
    if chat_format(tokenizer).takes_system:
        return [{"role": "system", "content": system}, *messages]
    first, *others = messages
    return [{"role": first["role"], "content": f"{system}\n\n{first['content']}"}, *others]


def user_turn_prefix(tokenizer: Any, system: str) -> str:
    """The rendered conversation up to where the user starts to write (Magpie, Xu et al., arXiv 2406.08464)."""
    turns = with_system(tokenizer, system, [{"role": "user", "content": MARK}])
    return render(tokenizer, turns, prompt=False).partition(MARK)[0]


def user_turn_stops(tokenizer: Any) -> dict[str, Any]:
    """vLLM's sampling parameters that end a user's turn where the template would: ``stop`` texts and ``stop_token_ids``."""
    found = chat_format(tokenizer)
    marker = found.user_end.strip()
    ids = encode(tokenizer, [marker])[0].ids[:1] if marker else []
    if ids and tokenizer.convert_ids_to_tokens(ids[0]) in found.control_tokens:
        return {"stop": [], "stop_token_ids": sorted({*ids, found.end_of_turn_id})}
    return {"stop": marker.split()[:1], "stop_token_ids": [found.end_of_turn_id]}


def hides_reasoning(tokenizer: Any) -> bool:
    """Whether a block of reasoning is marked by special tokens, which engines leave out of a text unless they are told not to."""
    special = {added.content for added in tokenizer.added_tokens_decoder.values() if added.special}
    return any(mark.startswith(token) for token in special for block in BLOCKS for mark in block)


def stop_ids(tokenizer: Any, declared: int | Sequence[int] | None) -> list[int]:
    """Ids that end an answer: those a model's configuration declares, the tokenizer's own, and what the template writes after one."""
    known = [declared] if isinstance(declared, int) else list(declared or ())
    if tokenizer.chat_template:
        known.append(chat_format(tokenizer).end_of_turn_id)
    return sorted({*known, tokenizer.eos_token_id} - {None})
