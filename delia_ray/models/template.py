"""Chat templates as Jinja text: fix their arguments and the current date, and render them.

Text that is added before or after a template does not change the rest of its output by a byte. Jinja renders with ``trim_blocks`` and
``lstrip_blocks``: a line break after a block is dropped, and so is whitespace before a block at the start of a line.
"""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, cast

from jinja2 import TemplateError

from delia_ray.core.errors import UserError
from delia_ray.core.records import Message
from delia_ray.models.reasoning import REASONING_SWITCHES

FIXED_DATE = datetime(2024, 7, 26)
"""Date for templates that render the current date: Llama 3's own default."""
_STRFTIME_NOW = re.compile(r"strftime_now\(\s*(['\"])(.*?)\1\s*\)")
_FINAL_LINE_BREAK = re.compile(r"(\r\n|\r|\n)\Z")
_ASSIGNMENTS = re.compile(r"(?:{% set \w+ = .* %}\n)*")
"""The arguments that were written at the start of a template."""
_TURN: list[Message] = [{"role": "user", "content": "Hi"}]


def set_template_arguments(tokenizer: Any, arguments: Mapping[str, Any]) -> None:
    """Write arguments of the chat template, such as ``date_string``, into the template itself, so that they hold for every renderer.

    Raises:
        UserError: an argument turns on reasoning, which is never trained on.
    """
    if not (arguments and tokenizer.chat_template):
        return
    template = get_default_template(tokenizer)
    for name in REASONING_SWITCHES:
        if arguments.get(name) and _changes_prompt(tokenizer, template, arguments, name):
            raise UserError(
                f"chat_template_kwargs.{name}: found {arguments[name]!r}, which turns on reasoning before an answer, and answers are "
                "generated, trained on and scored without it; set it to false or leave it out"
            )
    tokenizer.chat_template = _format_assignments(arguments) + template


def _changes_prompt(tokenizer: Any, template: str, arguments: Mapping[str, Any], name: str) -> bool:
    """Whether the template renders another prompt if the argument ``name`` is false."""
    return _differ(tokenizer, *(_format_assignments(each) + template for each in (arguments, {**arguments, name: False})))


def _differ(tokenizer: Any, first: str, second: str) -> bool:
    """Whether two templates render different prompts."""
    return render_template(tokenizer, first, _TURN, prompt=True) != render_template(tokenizer, second, _TURN, prompt=True)


def freeze_template(tokenizer: Any) -> tuple[str, bool]:
    """Return the template with a fixed date and reasoning turned off, and whether it has a switch for reasoning."""
    template = _STRFTIME_NOW.sub(lambda call: repr(FIXED_DATE.strftime(call[2])), get_default_template(tokenizer))
    # Jinja drops one line break at the end of a template, but not if text is appended to it.
    template = _FINAL_LINE_BREAK.sub("", template)
    has_switch = False
    for name in REASONING_SWITCHES:
        off = _format_assignments({name: False})
        if off in _ASSIGNMENTS.match(template)[0]:  # pyright: ignore[reportOptionalSubscript]  it matches the empty text, too
            has_switch = True
        elif name in template and _differ(tokenizer, template, off + template):
            template, has_switch = off + template, True
    return template, has_switch


def has_current_date(tokenizer: Any) -> bool:
    """Whether the template renders the current date."""
    return _STRFTIME_NOW.search(get_default_template(tokenizer)) is not None


def get_default_template(tokenizer: Any) -> str:
    """Return the tokenizer's default template, of possibly several named ones."""
    templates: str | Mapping[str, str] = tokenizer.chat_template
    return templates if isinstance(templates, str) else templates.get("default") or next(iter(templates.values()))


def _format_assignments(arguments: Mapping[str, Any]) -> str:
    """Format ``arguments`` as Jinja ``set`` blocks, which override what the caller of the template passes."""
    literals = {True: "true", False: "false", None: "none"}
    values = {name: literals[value] if value is None or isinstance(value, bool) else repr(value) for name, value in arguments.items()}
    # Each block has its own line, so that the template still starts at the beginning of a line.
    return "".join(f"{{% set {name} = {value} %}}\n" for name, value in values.items())


def append_to_generation_prompt(template: str, text: str) -> str:
    """Append ``text`` to the generation prompt of ``template``."""
    # The empty text keeps whitespace at the end of the template, which is now before a block.
    return f"{template}{{{{ '' }}}}{{% if add_generation_prompt %}}{{{{ {text!r} }}}}{{% endif %}}" if text else template


def render_template(tokenizer: Any, template: str, messages: Sequence[Message], *, prompt: bool) -> str:
    """Render the conversation with ``template``; with ``prompt``, including the generation prompt.

    Raises:
        UserError: the template raises an error for these turns.
    """
    try:
        rendered = tokenizer.apply_chat_template(list(messages), chat_template=template, tokenize=False, add_generation_prompt=prompt)
    except (TemplateError, TypeError, ValueError, AttributeError, KeyError, IndexError) as error:  # errors that a template's code can raise
        roles = ", ".join(message["role"] for message in messages)
        raise UserError(f"the model's chat template refuses the turns {roles}: {error}") from None
    return cast(str, rendered)
