"""What the model is shown when it asks and when it answers."""

import json
from functools import lru_cache
from importlib import resources
from typing import Any

from delia_ray.models.chat import prompt_text, with_system
from delia_ray.models.chat_format import chat_format
from delia_ray.models.control_tokens import ControlTokens
from delia_ray.records import Message, Query

_STEERS = (
    "You are a helpful assistant. The user asks about {topic} ({hint}). Every question is short, clear and complete in itself.",
    "You are an expert on {topic}. People bring you unusual questions of their own, each about another side of it than {hint}.",
    "You help with {topic}. The user describes a concrete situation of their own in a sentence or two, and asks what to do.",
)
WORDINGS = len(_STEERS)
"""Ways to steer towards a topic; the first is used unless a controller asks for another."""


@lru_cache(maxsize=1)
def topics() -> list[dict[str, str]]:
    """The built-in topics: ``topic`` and ``hint``."""
    return json.loads(resources.files("delia_ray.synthesis").joinpath("data", "topics.json").read_text(encoding="utf-8"))


def query_id(number: int) -> str:
    """The id of the query of that number."""
    return f"magpie-{number:08d}"


def steering_turn(topic: str, wording: int) -> str:
    """The system turn that steers towards ``topic``, in the wording of that index."""
    return _STEERS[wording].format(**next(each for each in topics() if each["topic"] == topic))


def answer_prompt(tokenizer: Any, query: Query, system: str | None, mode: str) -> str:
    """The rendered prompt whose continuation is the model's own answer to ``query``.

    In mode ``reference``, a query that has a reference answer is asked, answered with it, and asked again (METHOD 3.2).
    """
    turns: list[Message] = []
    if mode == "reference" and query["reference"] is not None:
        turns.append({"role": "user", "content": query["query"]})
        turns.append({"role": "assistant", "content": query["reference"]})
    turns.append({"role": "user", "content": query["query"]})
    return prompt_text(tokenizer, with_system(tokenizer, system, turns))


def control_tokens(tokenizer: Any) -> ControlTokens:
    """Tokens that open or close a turn, which no text may contain."""
    return chat_format(tokenizer).control
