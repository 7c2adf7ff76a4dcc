"""Features of a model's chat template, detected by rendering example conversations, and the template that a run renders.

That template differs from the model's own only in what is fixed for a run: the current date, the reasoning switch, and the text before
an answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from delia_ray.core.errors import UserError
from delia_ray.core.records import Message
from delia_ray.models.control_tokens import ControlTokens, find_control_tokens
from delia_ray.models.encoding import encode
from delia_ray.models.reasoning import has_open_reasoning_block, has_reasoning_block
from delia_ray.models.template import FIXED_DATE, append_to_generation_prompt, freeze_template, has_current_date, render_template

PLACEHOLDER = "\u0001"
"""Placeholder text whose position in a rendered conversation is searched for."""
_QUESTIONS = ("Hi", "Name a fruit.")
_ANSWERS = ("Hello", "A pear, perhaps.")


@dataclass(frozen=True)
class ChatFormat:
    """Features of a model's chat template."""

    template: str
    """The rendered template, which is saved with every model of the run."""
    supports_system: bool
    """Whether the template accepts and renders a leading system turn."""
    answer_prefix: str
    """Text appended to the generation prompt: the template renders it before an answer, but not in a generation prompt."""
    is_joined: bool
    """Whether an answered turn is rendered as prompt + answer + ``answer_suffix``, because the template's own rendering does not start
    with the prompt."""
    answer_suffix: str
    """Text that the template renders after the last answer."""
    end_of_turn: str
    """Token that the template renders after an answer."""
    end_of_turn_id: int
    user_turn_suffix: str
    """Text between the user's text and the assistant's."""
    bos_tokens: int
    """Number of BOS tokens in a prompt: one, or zero if the template renders none."""
    thinking: str
    """``none``; ``off``: disabled by the template's switch; ``empty block``: each prompt contains an empty reasoning block."""
    has_fixed_date: bool
    """Whether the template renders the current date, which is replaced by a fixed one."""
    control: ControlTokens
    """Matcher for the tokens that can open or close a turn, which no text may contain."""

    @property
    def control_tokens(self) -> tuple[str, ...]:
        return self.control.tokens

    def summarize(self) -> str:
        """Summarize the features in a line."""
        system = "" if self.supports_system else ", no system turn"
        return f"turns end with {self.end_of_turn}{system}" + ("" if self.thinking == "none" else f", reasoning {self.thinking}")

    def describe(self) -> dict[str, str]:
        """Describe the features as label and text, for the run's page."""
        features = {
            "system turn": "yes" if self.supports_system else "no: its text opens the first user turn",
            "generation prompt": f"yes, with {self.answer_prefix!r} appended" if self.answer_prefix else "yes",
            "answered turn": "the prompt, the answer, and its end" if self.is_joined else "as the template writes it",
            "end of turn": self.end_of_turn,
            "beginning of text": "written once" if self.bos_tokens else "none",
            "reasoning": {"none": "no block", "off": "switched off", "empty block": "an empty block in each prompt"}[self.thinking],
        }
        return {**features, "date": f"fixed at {FIXED_DATE:%d %b %Y}"} if self.has_fixed_date else features


_cache: "WeakKeyDictionary[Any, tuple[Any, int, ChatFormat]]" = WeakKeyDictionary()


def detect_chat_format(tokenizer: Any, model: str = "the model") -> ChatFormat:
    """Detect the features of the tokenizer's chat template, once for each template and vocabulary.

    Args:
        model: name of the model, for errors.

    Raises:
        UserError: there is no chat template, or a model cannot be tuned with it.
    """
    entry = _cache.get(tokenizer)
    if entry is None or entry[:2] != (tokenizer.chat_template, len(tokenizer)):
        entry = (tokenizer.chat_template, len(tokenizer), _detect(tokenizer, model))
        _cache[tokenizer] = entry
    return entry[2]


def _detect(tokenizer: Any, model: str) -> ChatFormat:
    if not tokenizer.chat_template:
        raise UserError(f"model: {model} has no chat template; use an instruction-tuned model or add chat_template.jinja to its folder")
    if not tokenizer.is_fast:
        raise UserError(f"model: the tokenizer of {model} is not a fast one (tokenizer.json), which token offsets need; convert it")
    template, is_thinking_off = freeze_template(tokenizer)
    is_joined = not _are_prompts_prefixes(tokenizer, template)
    answer_prefix = "" if is_joined else _find_answer_prefix(tokenizer, template, model)
    template = append_to_generation_prompt(template, answer_prefix)
    prompt, answer_suffix = _find_prompt_and_answer_suffix(tokenizer, template, model)
    _check_no_open_reasoning(prompt, model)
    control = find_control_tokens(tokenizer, prompt + _ANSWERS[0] + answer_suffix)
    end = _find_end_of_turn(tokenizer, template, answer_suffix, control.tokens, model)
    ids = encode(tokenizer, [prompt])[0].ids
    bos = ids[:2].count(tokenizer.bos_token_id)
    if bos > 1:
        raise UserError(f"model: the chat template of {model} writes {tokenizer.bos_token!r} twice; take one out of chat_template.jinja")
    user_prompt = render_template(tokenizer, template, [{"role": "user", "content": PLACEHOLDER}], prompt=True)
    return ChatFormat(
        template=template,
        supports_system=_supports_system(tokenizer, template),
        answer_prefix=answer_prefix,
        is_joined=is_joined,
        answer_suffix=answer_suffix,
        end_of_turn=tokenizer.convert_ids_to_tokens(end),
        end_of_turn_id=end,
        user_turn_suffix=user_prompt.partition(PLACEHOLDER)[2],
        bos_tokens=bos,
        thinking="off" if is_thinking_off else "empty block" if has_reasoning_block(prompt) else "none",
        has_fixed_date=has_current_date(tokenizer),
        control=control,
    )


def _build_examples() -> list[list[Message]]:
    """Build example conversations of one and of two exchanges."""
    first: list[Message] = [{"role": "user", "content": _QUESTIONS[0]}, {"role": "assistant", "content": _ANSWERS[0]}]
    second: list[Message] = [{"role": "user", "content": _QUESTIONS[1]}, {"role": "assistant", "content": _ANSWERS[1]}]
    return [first, second, [*first, *second]]


def _render_examples(tokenizer: Any, template: str) -> list[tuple[str, str, str]]:
    """Render each example: its prompt, the whole conversation and the last answer."""
    return [
        (
            render_template(tokenizer, template, turns[:-1], prompt=True),
            render_template(tokenizer, template, turns, prompt=False),
            turns[-1]["content"],
        )
        for turns in _build_examples()
    ]


def _are_prompts_prefixes(tokenizer: Any, template: str) -> bool:
    """Whether each prompt is a prefix of the answered conversation, as with most templates."""
    return all(whole.startswith(prompt) for prompt, whole, _ in _render_examples(tokenizer, template))


def _find_answer_prefix(tokenizer: Any, template: str, model: str) -> str:
    """Return the text that ``template`` renders between a prompt and an answer, unless whitespace: a header or an empty reasoning block.

    Without it in the prompt, the model would have to generate it, and readers of the answer would have to remove it.
    """
    prefixes = {whole[len(prompt) :].partition(answer)[0] for prompt, whole, answer in _render_examples(tokenizer, template)}
    if len(prefixes) > 1:
        raise UserError(f"model: the chat template of {model} opens answers in different ways ({sorted(prefixes)}); use one that does not")
    [prefix] = prefixes
    return prefix if prefix.strip() else ""


def _find_prompt_and_answer_suffix(tokenizer: Any, template: str, model: str) -> tuple[str, str]:
    """Return a rendered prompt, and the text that the template renders after every last answer."""
    rendered = _render_examples(tokenizer, template)
    suffixes = {whole.rpartition(answer)[2] if answer in whole else None for _, whole, answer in rendered}
    suffix = suffixes.pop()
    if suffix is None or suffixes:
        raise UserError(
            f"model: the chat template of {model} does not write answers unchanged, with the same text after each; "
            "use a model whose template does"
        )
    return rendered[0][0], suffix


def _check_no_open_reasoning(prompt: str, model: str) -> None:
    """Refuse a generation prompt that opens a reasoning block."""
    if has_open_reasoning_block(prompt):
        raise UserError(
            f"model: the chat template of {model} opens a block of reasoning in its prompt ({prompt[-40:]!r}), and answers are tuned "
            "without one; use a model that can answer at once, or set chat_template_kwargs"
        )


def _find_generation_prompt(tokenizer: Any, template: str) -> str:
    """Return the template's generation prompt."""
    turn = _build_examples()[0][:-1]
    with_prompt, plain = (render_template(tokenizer, template, turn, prompt=prompt) for prompt in (True, False))
    return with_prompt[len(plain) :].strip() if with_prompt.startswith(plain) else ""


def _find_end_of_turn(tokenizer: Any, template: str, suffix: str, control: Sequence[str], model: str) -> int:
    """Return the id of the first control token that the template renders after an answer.

    Raises:
        UserError: there is none, so that a model could not learn when to stop.
    """
    generation_prompt = _find_generation_prompt(tokenizer, template)
    for token in encode(tokenizer, [suffix])[0].ids:
        if tokenizer.convert_ids_to_tokens(token) in control and not (generation_prompt and suffix.strip().startswith(generation_prompt)):
            return token
    raise UserError(
        f"model: the chat template of {model} writes no special token after an answer (it writes {suffix!r}), so that stopping cannot be "
        "learned; end the assistant's turn with {{ eos_token }} in chat_template.jinja"
    )


def _supports_system(tokenizer: Any, template: str) -> bool:
    """Whether the template accepts a leading system turn and renders it for every length of the conversation."""
    turns: list[Message] = [{"role": "system", "content": PLACEHOLDER}, *_build_examples()[2]]
    try:
        # Some templates render it only if the last turn is the user's.
        return all(
            PLACEHOLDER in render_template(tokenizer, template, part, prompt=prompt)
            for part, prompt in ((turns[:-1], True), (turns, False))
        )
    except UserError:
        return False
