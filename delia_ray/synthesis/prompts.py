"""Prompts for generating queries and answers, and the built-in topics."""

import json
from functools import lru_cache
from importlib import resources
from typing import Any

from delia_ray.core.records import Message, Query
from delia_ray.models.chat import add_system_turn, render_prompt
from delia_ray.models.chat_format import detect_chat_format
from delia_ray.models.control_tokens import ControlTokens

_STEERING_TURNS = (
    "You are a helpful assistant. The user asks about {topic} ({hint}). Every question is short, clear and complete in itself.",
    "You are an expert on {topic}. People bring you unusual questions of their own, each about another side of it than {hint}.",
    "You help with {topic}. The user describes a concrete situation of their own in a sentence or two, and asks what to do.",
)
WORDINGS = len(_STEERING_TURNS)
"""Number of wordings that steer toward a topic; the first is used unless the diversity controller chooses another."""


@lru_cache(maxsize=1)
def load_topics() -> list[dict[str, str]]:
    """Load the built-in topics, each with ``topic`` and ``hint``."""
    return json.loads(resources.files("delia_ray.synthesis").joinpath("data", "topics.json").read_text(encoding="utf-8"))


def format_query_id(number: int) -> str:
    """Return the id of a Magpie query by its number."""
    return f"magpie-{number:08d}"


def render_steering_turn(topic: str, wording: int) -> str:
    """Return the system turn that steers toward ``topic``, in the wording of that index."""
    return _STEERING_TURNS[wording].format(**next(each for each in load_topics() if each["topic"] == topic))


def render_answer_prompt(tokenizer: Any, query: Query, system: str | None, mode: str) -> str:
    """Render the prompt that the model completes with its answer to ``query``.

    In mode ``reference``, a query with a reference answer is asked, answered with it, and asked again (docs/method.md, Steps).
    """
    turns: list[Message] = []
    if mode == "reference" and query["reference"] is not None:
        turns.append({"role": "user", "content": query["query"]})
        turns.append({"role": "assistant", "content": query["reference"]})
    turns.append({"role": "user", "content": query["query"]})
    return render_prompt(tokenizer, add_system_turn(tokenizer, system, turns))


def control_tokens(tokenizer: Any) -> ControlTokens:
    """Return the tokens that open or close a turn, which no text may contain."""
    return detect_chat_format(tokenizer).control
