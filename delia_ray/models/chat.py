"""A model's chat template: what it can put, what it writes around an answer, and a conversation as token ids.

Everything that renders a conversation goes through here, so that queries, diverse answers, training rows, scored prompts and the
exported folder agree to the token. The template is rendered as ``ChatFormat.template``, which differs from the model's own only in
what has to be settled once for a run: see ``normalise``.

Legend: T tokens of a row.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast
from weakref import WeakKeyDictionary

from jinja2 import TemplateError

from delia_ray.errors import UserError
from delia_ray.records import Message

_MARK = "\u0001"
_QUESTIONS = ("Hi", "Name a fruit.")
_ANSWERS = ("Hello", "A pear, perhaps.")
_DATE = datetime(2024, 7, 26)
"""What a template that asks for today's date is told: Llama 3's own default."""
_NOW = re.compile(r"strftime_now\(\s*(['\"])(.*?)\1\s*\)")
_REASONING = re.compile(r"^\s*<think>.*?(</think>\s*|$)", re.DOTALL)


@dataclass(frozen=True)
class ChatFormat:
    """What a model's chat template can do, as rendering a few conversations showed."""

    template: str
    """The template that is rendered, and saved with every model of the run."""
    takes_system: bool
    """Whether a system turn may open a conversation, and is shown."""
    lead: str
    """What was appended to the template's generation prompt: what it puts before an answer, and would not write into a prompt."""
    end_of_turn: str
    """The token that the template writes after an answer."""
    end_of_turn_id: int
    user_end: str
    """What stands between the user's text and the assistant's."""
    bos_tokens: int
    """Beginning-of-text tokens in a prompt: one, or none where the template writes none."""
    thinking: str
    """``none``, ``off``: the template's own switch is set, or ``empty block``: an empty block of reasoning is part of each prompt."""
    has_fixed_date: bool
    """Whether the template asks for today's date, and is told the same one for ever."""
    control_tokens: tuple[str, ...]
    """Tokens that may open or close a turn, which no text may contain."""

    def summary(self) -> str:
        """What was found, in a line."""
        system = "" if self.takes_system else ", no system turn"
        return f"turns end with {self.end_of_turn}{system}" + ("" if self.thinking == "none" else f", reasoning {self.thinking}")

    def facts(self) -> dict[str, str]:
        """What was found, in words, for the run's page."""
        found = {
            "system turn": "yes" if self.takes_system else "no: its text opens the first user turn",
            "generation prompt": f"yes, with {self.lead!r} appended" if self.lead else "yes",
            "end of turn": self.end_of_turn,
            "beginning of text": "written once" if self.bos_tokens else "none",
            "reasoning": {"none": "no block", "off": "switched off", "empty block": "an empty block in each prompt"}[self.thinking],
        }
        return {**found, "date": f"fixed at {_DATE:%d %b %Y}"} if self.has_fixed_date else found


_known: "WeakKeyDictionary[Any, tuple[Any, int, ChatFormat]]" = WeakKeyDictionary()


def chat_format(tokenizer: Any, model: str = "the model") -> ChatFormat:
    """What the chat template of ``tokenizer`` can do. Found out once for a template and a vocabulary.

    Args:
        model: its name, for errors.

    Raises:
        UserError: there is no template, or none that a model can be tuned with.
    """
    known = _known.get(tokenizer)
    if known is None or known[:2] != (tokenizer.chat_template, len(tokenizer)):
        known = (tokenizer.chat_template, len(tokenizer), _find_format(tokenizer, model))
        _known[tokenizer] = known
    return known[2]


def set_arguments(tokenizer: Any, arguments: Mapping[str, Any]) -> None:
    """Fix arguments of the chat template, such as ``enable_thinking``, in the template itself: every reader then has them."""
    if arguments and tokenizer.chat_template:
        tokenizer.chat_template = _assignments(arguments) + _default_template(tokenizer)


def render(tokenizer: Any, messages: Sequence[Message], *, prompt: bool) -> str:
    """The conversation as text; as a ``prompt``, up to where the assistant starts to write.

    Raises:
        UserError: the template refuses these turns.
    """
    return _render(tokenizer, chat_format(tokenizer).template, messages, prompt=prompt)


def prompt_text(tokenizer: Any, messages: Sequence[Message]) -> str:
    """The conversation rendered up to where the assistant starts to write."""
    return render(tokenizer, messages, prompt=True)


def encode(tokenizer: Any, texts: Sequence[str]) -> list[Any]:
    """The encoding (``ids``, ``offsets``) of each rendered text: the template has written all special tokens there are to be."""
    # Not through the tokenizer's own call, which spends a quarter more on masks that are not needed here.
    return tokenizer.backend_tokenizer.encode_batch(list(texts), add_special_tokens=False)


def encode_after(tokenizer: Any, text: str) -> list[tuple[int, int]]:
    """Token ids of ``text`` as it goes on after a prompt, each with its first character.

    Behind a special token, which every tokenizer sets apart: some put a space before a text's first word.
    """
    anchor = next((added for added in tokenizer.added_tokens_decoder.values() if added.special and not added.rstrip), None)
    before = "" if anchor is None else anchor.content
    encoding = encode(tokenizer, [before + text])[0]
    return [(token, start - len(before)) for token, (start, _) in zip(encoding.ids, encoding.offsets, strict=True) if start >= len(before)]


def prompt_ids(tokenizer: Any, messages: Sequence[Message]) -> list[int]:
    """Token ids of a conversation up to where the assistant starts to write."""
    return encode(tokenizer, [prompt_text(tokenizer, messages)])[0].ids


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
    turns = with_system(tokenizer, system, [{"role": "user", "content": _MARK}])
    return render(tokenizer, turns, prompt=False).partition(_MARK)[0]


def user_turn_stops(tokenizer: Any) -> dict[str, Any]:
    """vLLM's sampling parameters that end a user's turn where the template would: ``stop`` texts and ``stop_token_ids``."""
    found = chat_format(tokenizer)
    marker = found.user_end.strip()
    ids = encode(tokenizer, [marker])[0].ids[:1] if marker else []
    if ids and tokenizer.convert_ids_to_tokens(ids[0]) in found.control_tokens:
        return {"stop": [], "stop_token_ids": sorted({*ids, found.end_of_turn_id})}
    return {"stop": marker.split()[:1], "stop_token_ids": [found.end_of_turn_id]}


def without_reasoning(text: str) -> str:
    """``text`` without the block of reasoning that a model may have opened it with; nothing, where the block never ends."""
    return _REASONING.sub("", text, count=1)


def stop_ids(tokenizer: Any, declared: int | Sequence[int] | None) -> list[int]:
    """Ids that end an answer: those a model's configuration declares, the tokenizer's own, and what the template writes after one."""
    known = [declared] if isinstance(declared, int) else list(declared or ())
    if tokenizer.chat_template:
        known.append(chat_format(tokenizer).end_of_turn_id)
    return sorted({*known, tokenizer.eos_token_id} - {None})


def _find_format(tokenizer: Any, model: str) -> ChatFormat:
    if not tokenizer.chat_template:
        raise UserError(f"model: {model} has no chat template; use an instruction-tuned model or add chat_template.jinja to its folder")
    if not tokenizer.is_fast:
        raise UserError(
            f"model: the tokenizer of {model} is no fast one (tokenizer.json), which places of tokens are read from; convert it"
        )
    template, thinking = _settled(tokenizer)
    lead = _lead(tokenizer, template, model)
    template += _if_prompt(lead)
    prompt, tail = _prompt_and_tail(tokenizer, template)
    control = _control_tokens(tokenizer, prompt + _ANSWERS[0] + tail)
    end = _end_of_turn(tokenizer, template, tail, control, model)
    ids = encode(tokenizer, [prompt])[0].ids
    bos = ids[:2].count(tokenizer.bos_token_id)
    if bos > 1:
        raise UserError(f"model: the chat template of {model} writes {tokenizer.bos_token!r} twice; take one out of chat_template.jinja")
    user = _render(tokenizer, template, [{"role": "user", "content": _MARK}], prompt=True)
    return ChatFormat(
        template=template,
        takes_system=_takes_system(tokenizer, template),
        lead=lead,
        end_of_turn=tokenizer.convert_ids_to_tokens(end),
        end_of_turn_id=end,
        user_end=user.partition(_MARK)[2],
        bos_tokens=bos,
        thinking=thinking or ("empty block" if "</think>" in prompt else "none"),
        has_fixed_date=_NOW.search(_default_template(tokenizer)) is not None,
        control_tokens=control,
    )


def _settled(tokenizer: Any) -> tuple[str, str]:
    """The template with today's date and the switch of its reasoning decided, and ``off`` if it has such a switch."""
    given = _default_template(tokenizer)
    template = _NOW.sub(lambda call: repr(_DATE.strftime(call[2])), given)
    # Jinja drops one line break at a template's end, and would not, were anything appended after it.
    template = template.removesuffix("\n")
    off = _assignments({"enable_thinking": False})
    if "enable_thinking" not in template or template.startswith(off):
        return template, "off" if template.startswith(off) else ""
    turn: list[Message] = [{"role": "user", "content": _QUESTIONS[0]}]
    asked = [_render(tokenizer, each, turn, prompt=True) for each in (template, off + template)]
    return (template, "") if asked[0] == asked[1] else (off + template, "off")


def _default_template(tokenizer: Any) -> str:
    given: str | Mapping[str, str] = tokenizer.chat_template
    return given if isinstance(given, str) else given.get("default") or next(iter(given.values()))


def _assignments(arguments: Mapping[str, Any]) -> str:
    """Jinja that sets ``arguments``, whatever the caller of the template passes."""
    written = {True: "true", False: "false", None: "none"}
    values = {name: written[value] if value is None or isinstance(value, bool) else repr(value) for name, value in arguments.items()}
    # The empty text keeps a line break that the template begins with.
    return "".join(f"{{% set {name} = {value} %}}{{{{ '' }}}}" for name, value in values.items())


def _if_prompt(text: str) -> str:
    return f"{{% if add_generation_prompt %}}{{{{ {text!r} }}}}{{% endif %}}" if text else ""


def _render(tokenizer: Any, template: str, messages: Sequence[Message], *, prompt: bool) -> str:
    try:
        rendered = tokenizer.apply_chat_template(list(messages), chat_template=template, tokenize=False, add_generation_prompt=prompt)
    except (TemplateError, TypeError, ValueError, AttributeError, KeyError, IndexError) as error:  # whatever a template's code may raise
        roles = ", ".join(message["role"] for message in messages)
        raise UserError(f"the model's chat template refuses the turns {roles}: {error}") from None
    return cast(str, rendered)


def _examples() -> list[list[Message]]:
    """Conversations of one and of two exchanges."""
    first: list[Message] = [{"role": "user", "content": _QUESTIONS[0]}, {"role": "assistant", "content": _ANSWERS[0]}]
    second: list[Message] = [{"role": "user", "content": _QUESTIONS[1]}, {"role": "assistant", "content": _ANSWERS[1]}]
    return [first, second, [*first, *second]]


def _lead(tokenizer: Any, template: str, model: str) -> str:
    """What ``template`` puts between a prompt and an answer, if that is more than white space: a header, or an empty block of reasoning.

    A model would have to write it itself, and whatever reads the answer would have to take it off again.
    """
    leads: set[str] = set()
    for turns in _examples():
        prompt, whole = (_render(tokenizer, template, part, prompt=asks) for part, asks in ((turns[:-1], True), (turns, False)))
        if not whole.startswith(prompt):
            raise UserError(
                f"model: the chat template of {model} renders an answered turn unlike its generation prompt {prompt[-40:]!r}; use a model "
                "that answers without reasoning first, set chat_template_kwargs, or a template whose prompt is a prefix"
            )
        leads.add(whole[len(prompt) :].partition(turns[-1]["content"])[0])
    if len(leads) > 1:
        raise UserError(f"model: the chat template of {model} opens answers in different ways ({sorted(leads)}); use one that does not")
    [lead] = leads
    prompt = _render(tokenizer, template, _examples()[0][:-1], prompt=True) + lead
    if prompt.count("<think>") > prompt.count("</think>"):
        raise UserError(
            f"model: the chat template of {model} opens a block of reasoning in its prompt ({prompt[-40:]!r}), and answers are tuned "
            "without one; use a model that can answer at once, or set chat_template_kwargs"
        )
    return lead if lead.strip() else ""


def _prompt_and_tail(tokenizer: Any, template: str) -> tuple[str, str]:
    """A prompt, and what the template writes after the answer to it."""
    turns = _examples()[0]
    prompt = _render(tokenizer, template, turns[:-1], prompt=True)
    return prompt, _render(tokenizer, template, turns, prompt=False)[len(prompt) :].partition(_ANSWERS[0])[2]


def _control_tokens(tokenizer: Any, rendered: str) -> tuple[str, ...]:
    """Special tokens, and added ones that the template itself writes: vocabularies keep runs of white space and HTML tags as such, too."""
    added = {str(token) for token in tokenizer.get_added_vocab()}
    written = {token for token in added if token in rendered and token.strip()}
    special = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    return tuple(sorted({*tokenizer.all_special_tokens, *special, *written}))


def _header(tokenizer: Any, template: str) -> str:
    """What the template adds where the assistant starts to write."""
    turn = _examples()[0][:-1]
    asked, plain = (_render(tokenizer, template, turn, prompt=prompt) for prompt in (True, False))
    return asked[len(plain) :].strip() if asked.startswith(plain) else ""


def _end_of_turn(tokenizer: Any, template: str, tail: str, control: Sequence[str], model: str) -> int:
    """Id of the first control token that the template writes after an answer.

    Raises:
        UserError: there is none, so that a model could not learn when to stop.
    """
    header = _header(tokenizer, template)
    for token in encode(tokenizer, [tail])[0].ids:
        if tokenizer.convert_ids_to_tokens(token) in control and not (header and tail.strip().startswith(header)):
            return token
    raise UserError(
        f"model: the chat template of {model} writes no special token after an answer (it writes {tail!r}), so that stopping cannot be "
        "learnt; end the assistant's turn with {{ eos_token }} in chat_template.jinja"
    )


def _takes_system(tokenizer: Any, template: str) -> bool:
    turns: list[Message] = [{"role": "system", "content": _MARK}, *_examples()[2]]
    try:
        # Some show it only while the last turn is the user's.
        return all(_MARK in _render(tokenizer, template, part, prompt=asks) for part, asks in ((turns[:-1], True), (turns, False)))
    except UserError:
        return False
