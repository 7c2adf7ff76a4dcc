"""What the model is shown when it asks and when it answers."""

import json
from collections.abc import Sequence
from functools import lru_cache
from importlib import resources
from typing import Any

from delia_ray.records import Message, Query

_STEER = "You are a helpful assistant. The user asks about {topic} ({hint}). Every question is short, clear and complete in itself."
_MARK = "\u0001"


@lru_cache(maxsize=1)
def topics() -> list[dict[str, str]]:
    """The built-in topics: ``topic`` and ``hint``."""
    return json.loads(resources.files("delia_ray.synthesis").joinpath("data", "topics.json").read_text(encoding="utf-8"))


def query_row(index: int) -> dict[str, str]:
    """The request for the query of that number, the topics taking turns: ``query_id``, ``topic`` and the steering ``system`` turn."""
    known = topics()
    topic = known[index % len(known)]
    return {"query_id": f"magpie-{index:08d}", "topic": topic["topic"], "system": _STEER.format(**topic)}


def user_turn_prefix(tokenizer: Any, system: str) -> str:
    """The rendered conversation up to where the user starts to write (Magpie, Xu et al., arXiv 2406.08464)."""
    turns: list[Message] = [{"role": "system", "content": system}, {"role": "user", "content": _MARK}]
    return tokenizer.apply_chat_template(turns, tokenize=False).partition(_MARK)[0]


def answer_prompt(tokenizer: Any, query: Query, system: str | None, mode: str) -> str:
    """The rendered prompt whose continuation is the model's own answer to ``query``.

    In mode ``reference``, a query that has a reference answer is asked, answered with it, and asked again (METHOD 3.2).
    """
    turns: list[Message] = []
    if system is not None:
        turns.append({"role": "system", "content": system})
    if mode == "reference" and query["reference"] is not None:
        turns.append({"role": "user", "content": query["query"]})
        turns.append({"role": "assistant", "content": query["reference"]})
    turns.append({"role": "user", "content": query["query"]})
    return tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)


def control_tokens(tokenizer: Any) -> tuple[str, ...]:
    """Special tokens that have a role in rendering, which no text may contain."""
    special: Sequence[str] = tokenizer.all_special_tokens
    added: list[str] = [str(token) for token in tokenizer.get_added_vocab()]
    return tuple(sorted({*special, *added}))
