"""A model's chat template as text: asked as the run asks it, the same on every day, and rendered.

What is put before a template or behind it leaves the rest of it byte for byte as it was rendered. Templates are read with
``trim_blocks`` and ``lstrip_blocks``: a line break after a block is dropped, and so is white space before a block that begins a line.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, cast

from jinja2 import TemplateError

from delia_ray.errors import UserError
from delia_ray.models.reasoning import SWITCHES
from delia_ray.records import Message

DATE = datetime(2024, 7, 26)
"""What a template that asks for today's date is told: Llama 3's own default."""
_NOW = re.compile(r"strftime_now\(\s*(['\"])(.*?)\1\s*\)")
_LAST_BREAK = re.compile(r"(\r\n|\r|\n)\Z")
_TURN: list[Message] = [{"role": "user", "content": "Hi"}]


def set_arguments(tokenizer: Any, arguments: Mapping[str, Any]) -> None:
    """Fix arguments of the chat template, such as ``date_string``, in the template itself: every reader then has them.

    Raises:
        UserError: an argument asks for reasoning, which is never trained on.
    """
    if not (arguments and tokenizer.chat_template):
        return
    template = default_template(tokenizer)
    for name in SWITCHES:
        if arguments.get(name) and _changes_prompt(tokenizer, template, arguments, name):
            raise UserError(
                f"chat_template_kwargs.{name}: found {arguments[name]!r}, which asks for reasoning before an answer, and answers are "
                "drawn, trained on and scored without it; set it to false or leave it out"
            )
    tokenizer.chat_template = _assignments(arguments) + template


def _changes_prompt(tokenizer: Any, template: str, arguments: Mapping[str, Any], name: str) -> bool:
    """Whether the template asks otherwise where the argument of that name is false."""
    asked = [_assignments(each) + template for each in (arguments, {**arguments, name: False})]
    first, second = (render_template(tokenizer, each, _TURN, prompt=True) for each in asked)
    return first != second


def settle_template(tokenizer: Any) -> tuple[str, bool]:
    """The template with today's date and the switch of its reasoning decided, and whether it has such a switch, which is off."""
    given = default_template(tokenizer)
    template = _NOW.sub(lambda call: repr(DATE.strftime(call[2])), given)
    # Jinja drops one line break at a template's end, and would not, were anything appended after it.
    template = _LAST_BREAK.sub("", template)
    off = _assignments({"enable_thinking": False})
    if "enable_thinking" not in template or template.startswith(off):
        return template, template.startswith(off)
    asked = [render_template(tokenizer, each, _TURN, prompt=True) for each in (template, off + template)]
    return (template, False) if asked[0] == asked[1] else (off + template, True)


def asks_for_date(tokenizer: Any) -> bool:
    """Whether the template writes today's date."""
    return _NOW.search(default_template(tokenizer)) is not None


def default_template(tokenizer: Any) -> str:
    """The one that is rendered unless another is named."""
    given: str | Mapping[str, str] = tokenizer.chat_template
    return given if isinstance(given, str) else given.get("default") or next(iter(given.values()))


def _assignments(arguments: Mapping[str, Any]) -> str:
    """Jinja that sets ``arguments``, whatever the caller of the template passes."""
    written = {True: "true", False: "false", None: "none"}
    values = {name: written[value] if value is None or isinstance(value, bool) else repr(value) for name, value in arguments.items()}
    # Each block has a line to itself, so that what follows begins a line as it did.
    return "".join(f"{{% set {name} = {value} %}}\n" for name, value in values.items())


def append_to_prompts(template: str, text: str) -> str:
    """``template`` with ``text`` behind its generation prompt."""
    # The empty text keeps white space that the template ends with: it stands before a block, now.
    return f"{template}{{{{ '' }}}}{{% if add_generation_prompt %}}{{{{ {text!r} }}}}{{% endif %}}" if text else template


def render_template(tokenizer: Any, template: str, messages: Sequence[Message], *, prompt: bool) -> str:
    """The conversation as ``template`` writes it; as a ``prompt``, up to where the assistant starts to write.

    Raises:
        UserError: the template refuses these turns.
    """
    try:
        rendered = tokenizer.apply_chat_template(list(messages), chat_template=template, tokenize=False, add_generation_prompt=prompt)
    except (TemplateError, TypeError, ValueError, AttributeError, KeyError, IndexError) as error:  # whatever a template's code may raise
        roles = ", ".join(message["role"] for message in messages)
        raise UserError(f"the model's chat template refuses the turns {roles}: {error}") from None
    return cast(str, rendered)
