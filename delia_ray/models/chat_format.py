"""What a model's chat template can do, as rendering a few conversations shows, and the template that a run renders.

That template differs from the model's own only in what has to be settled once for a run: today's date, a switch of reasoning, and what
stands before an answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from delia_ray.errors import UserError
from delia_ray.models.control_tokens import ControlTokens, find_control_tokens
from delia_ray.models.encoding import encode
from delia_ray.models.reasoning import holds_block, leaves_open
from delia_ray.models.template import DATE, append_to_prompts, asks_for_date, render_template, settle_template
from delia_ray.records import Message

MARK = "\u0001"
"""Stands for a text whose place is looked for."""
_QUESTIONS = ("Hi", "Name a fruit.")
_ANSWERS = ("Hello", "A pear, perhaps.")


@dataclass(frozen=True)
class ChatFormat:
    """What a model's chat template can do."""

    template: str
    """The template that is rendered, and saved with every model of the run."""
    takes_system: bool
    """Whether a system turn may open a conversation, and is shown."""
    lead: str
    """What was appended to the template's generation prompt: what it puts before an answer, and would not write into a prompt."""
    is_joined: bool
    """Whether an answered turn is the prompt, the answer and ``tail``, since the template itself renders it without the prompt's end."""
    tail: str
    """What the template writes after an answer that ends a conversation."""
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
    control: ControlTokens
    """Finds tokens that may open or close a turn, which no text may contain."""

    @property
    def control_tokens(self) -> tuple[str, ...]:
        return self.control.tokens

    def summary(self) -> str:
        """What was found, in a line."""
        system = "" if self.takes_system else ", no system turn"
        return f"turns end with {self.end_of_turn}{system}" + ("" if self.thinking == "none" else f", reasoning {self.thinking}")

    def facts(self) -> dict[str, str]:
        """What was found, in words, for the run's page."""
        found = {
            "system turn": "yes" if self.takes_system else "no: its text opens the first user turn",
            "generation prompt": f"yes, with {self.lead!r} appended" if self.lead else "yes",
            "answered turn": "the prompt, the answer, and its end" if self.is_joined else "as the template writes it",
            "end of turn": self.end_of_turn,
            "beginning of text": "written once" if self.bos_tokens else "none",
            "reasoning": {"none": "no block", "off": "switched off", "empty block": "an empty block in each prompt"}[self.thinking],
        }
        return {**found, "date": f"fixed at {DATE:%d %b %Y}"} if self.has_fixed_date else found


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


def _find_format(tokenizer: Any, model: str) -> ChatFormat:
    if not tokenizer.chat_template:
        raise UserError(f"model: {model} has no chat template; use an instruction-tuned model or add chat_template.jinja to its folder")
    if not tokenizer.is_fast:
        raise UserError(
            f"model: the tokenizer of {model} is no fast one (tokenizer.json), which places of tokens are read from; convert it"
        )
    template, is_off = settle_template(tokenizer)
    is_joined = not _prompts_are_beginnings(tokenizer, template)
    lead = "" if is_joined else _lead(tokenizer, template, model)
    template = append_to_prompts(template, lead)
    prompt, tail = _prompt_and_tail(tokenizer, template, model)
    _check_closed(prompt, model)
    control = find_control_tokens(tokenizer, prompt + _ANSWERS[0] + tail)
    end = _end_of_turn(tokenizer, template, tail, control.tokens, model)
    ids = encode(tokenizer, [prompt])[0].ids
    bos = ids[:2].count(tokenizer.bos_token_id)
    if bos > 1:
        raise UserError(f"model: the chat template of {model} writes {tokenizer.bos_token!r} twice; take one out of chat_template.jinja")
    user = render_template(tokenizer, template, [{"role": "user", "content": MARK}], prompt=True)
    return ChatFormat(
        template=template,
        takes_system=_takes_system(tokenizer, template),
        lead=lead,
        is_joined=is_joined,
        tail=tail,
        end_of_turn=tokenizer.convert_ids_to_tokens(end),
        end_of_turn_id=end,
        user_end=user.partition(MARK)[2],
        bos_tokens=bos,
        thinking="off" if is_off else "empty block" if holds_block(prompt) else "none",
        has_fixed_date=asks_for_date(tokenizer),
        control=control,
    )


def _examples() -> list[list[Message]]:
    """Conversations of one and of two exchanges."""
    first: list[Message] = [{"role": "user", "content": _QUESTIONS[0]}, {"role": "assistant", "content": _ANSWERS[0]}]
    second: list[Message] = [{"role": "user", "content": _QUESTIONS[1]}, {"role": "assistant", "content": _ANSWERS[1]}]
    return [first, second, [*first, *second]]


def _rendered_examples(tokenizer: Any, template: str) -> list[tuple[str, str, str]]:
    """Of each example the prompt, the whole and the answer."""
    return [
        (
            render_template(tokenizer, template, turns[:-1], prompt=True),
            render_template(tokenizer, template, turns, prompt=False),
            turns[-1]["content"],
        )
        for turns in _examples()
    ]


def _prompts_are_beginnings(tokenizer: Any, template: str) -> bool:
    """Whether each prompt is the beginning of the answered conversation, as it is with most templates."""
    return all(whole.startswith(prompt) for prompt, whole, _ in _rendered_examples(tokenizer, template))


def _lead(tokenizer: Any, template: str, model: str) -> str:
    """What ``template`` puts between a prompt and an answer, if that is more than white space: a header, or an empty block of reasoning.

    A model would have to write it itself, and whatever reads the answer would have to take it off again.
    """
    leads = {whole[len(prompt) :].partition(answer)[0] for prompt, whole, answer in _rendered_examples(tokenizer, template)}
    if len(leads) > 1:
        raise UserError(f"model: the chat template of {model} opens answers in different ways ({sorted(leads)}); use one that does not")
    [lead] = leads
    return lead if lead.strip() else ""


def _prompt_and_tail(tokenizer: Any, template: str, model: str) -> tuple[str, str]:
    """A prompt, and what the template writes after every answer that ends a conversation."""
    rendered = _rendered_examples(tokenizer, template)
    tails = {whole.rpartition(answer)[2] if answer in whole else None for _, whole, answer in rendered}
    tail = tails.pop()
    if tail is None or tails:
        raise UserError(
            f"model: the chat template of {model} does not write an answer as it is, and the same behind each; "
            "use a model whose template does"
        )
    return rendered[0][0], tail


def _check_closed(prompt: str, model: str) -> None:
    if leaves_open(prompt):
        raise UserError(
            f"model: the chat template of {model} opens a block of reasoning in its prompt ({prompt[-40:]!r}), and answers are tuned "
            "without one; use a model that can answer at once, or set chat_template_kwargs"
        )


def _header(tokenizer: Any, template: str) -> str:
    """What the template adds where the assistant starts to write."""
    turn = _examples()[0][:-1]
    asked, plain = (render_template(tokenizer, template, turn, prompt=prompt) for prompt in (True, False))
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
    turns: list[Message] = [{"role": "system", "content": MARK}, *_examples()[2]]
    try:
        # Some show it only while the last turn is the user's.
        return all(MARK in render_template(tokenizer, template, part, prompt=asks) for part, asks in ((turns[:-1], True), (turns, False)))
    except UserError:
        return False
