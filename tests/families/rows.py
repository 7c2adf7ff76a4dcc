"""A small conversation under the template of a family, and its trained tokens."""

from typing import Any

from family_table import FAMILIES
from zoo import build_family_tokenizer

from delia_ray.core.records import Message
from delia_ray.training.data.tokens import KINDS, tokenize

TURN: list[Message] = [{"role": "user", "content": "Say hello."}]
FAMILY_BY_NAME = {family.name: family for family in FAMILIES}
HELLO: Any = {"example_id": "x", "group": "task", "label": None, "messages": [*TURN, {"role": "assistant", "content": "Hello"}]}


def build_tokenizer(family: str, template: str) -> Any:
    """Build the tokenizer of a family with another chat template."""
    tokenizer = build_family_tokenizer(FAMILY_BY_NAME[family])
    tokenizer.chat_template = template
    return tokenizer


def list_trained_tokens(tokenizer: Any, row: Any = HELLO) -> list[tuple[str, str]]:
    """List text and kind of the tokens of ``row`` that are trained on."""
    [tokenized] = tokenize(tokenizer, [row], "answer")
    return [(tokenizer.decode([token]), KINDS[kind]) for token, kind in zip(tokenized.ids, tokenized.kinds, strict=True) if kind]
