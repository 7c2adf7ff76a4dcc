"""One small conversation, under a template of a family, and what of it is learnt."""

from typing import Any

from family_table import FAMILIES
from zoo import make_tokenizer

from delia_ray.records import Message
from delia_ray.training.tokens import KINDS, tokenise

TURN: list[Message] = [{"role": "user", "content": "Say hello."}]
NAMED = {family.name: family for family in FAMILIES}
HELLO: Any = {"example_id": "x", "group": "task", "label": None, "messages": [*TURN, {"role": "assistant", "content": "Hello"}]}


def tokenizer(family: str, template: str) -> Any:
    made = make_tokenizer(NAMED[family])
    made.chat_template = template
    return made


def learnt(made: Any, row: Any = HELLO) -> list[tuple[str, str]]:
    [found] = tokenise(made, [row], "answer")
    return [(made.decode([token]), KINDS[kind]) for token, kind in zip(found.ids, found.kinds, strict=True) if kind]
