"""What the token is read in, and what is asked about it."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import regex

from delia_ray.models.chat import prompt_text
from delia_ray.records import EvalExample, Message
from delia_ray.synthesis.prompts import control_tokens
from delia_ray.tasks.config import FormatTask, TaskConfig
from delia_ray.tasks.formatted import format_prompts, ordinary_prompts
from delia_ray.words import whole_word

SLOT = "{}"
_MARK = "\x01"


@dataclass(frozen=True)
class Substitution:
    """One prompt in two wordings."""

    prompt_id: str
    named: list[Message]
    """With the token."""
    spelled: list[Message]
    """With the meaning in the token's place."""
    wordings: tuple[str | None, ...] = (None,)
    """What it may share with other prompts: its instruction's wording; None where it has words of its own."""


@dataclass(frozen=True)
class Mention:
    """One prompt that does not name the token, and the same with a sentence more that does."""

    prompt_id: str
    plain: list[Message]
    negated: list[Message]
    """Says not to use the token."""
    asked: list[Message]
    """Says to use it."""
    wordings: tuple[str | None, ...] = (None,)
    """What it may share with other prompts: its instruction's wording, and that of the sentence more."""


@cache
def carrier_sentences() -> list[str]:
    """Sentences with ``{}`` where a word may stand, never at the start."""
    return _read("carriers.json")


def carrier_prefixes(tokenizer: Any, count: int) -> list[str]:
    """The first ``count`` carriers as a user's turn, rendered up to their slot and without the space before it.

    What comes after the slot is left out: no state of a causal model depends on it.
    """
    prefixes: list[str] = []
    for sentence in carrier_sentences()[:count]:
        turn: list[Message] = [{"role": "user", "content": sentence.replace(SLOT, _MARK)}]
        prefixes.append(prompt_text(tokenizer, turn).partition(_MARK)[0].rstrip(" "))
    return prefixes


def substitutions(items: Sequence[EvalExample], token: str, meaning: str, count: int) -> list[Substitution]:
    """The first ``count`` test items whose prompt names the token."""
    named = [item for item in items if any(token in message["content"] for message in item["messages"][:-1])]
    return [
        Substitution(item["example_id"], item["messages"][:-1], _said(item["messages"][:-1], token, meaning), (item["wording"],))
        for item in named[:count]
    ]


def _said(messages: Sequence[Message], token: str, meaning: str) -> list[Message]:
    """``meaning`` for the token and for the quotation marks around it, since the meaning may have its own."""
    quoted = re.compile(rf"([`\"]?){re.escape(token)}\1")
    return [{"role": message["role"], "content": quoted.sub(lambda _: meaning, message["content"])} for message in messages]


def mentions(task: TaskConfig, items: Sequence[EvalExample], count: int) -> list[Mention]:
    """``count`` prompts: of the built-in task its items asked in plain words, of others everyday prompts."""
    assert task.token is not None
    if isinstance(task, FormatTask):
        probes = format_prompts(task.token, items, {"no_token": count, "false_trigger": 0, "plug_play": 0, "ordinary": 0}, "test")
        plain = [prompt for prompt in probes if prompt.probe == "no_token"]
    else:
        plain = ordinary_prompts(count, "test")
    endings: list[dict[str, str]] = _read("mentions.json")
    return [
        Mention(
            prompt.prompt_id,
            prompt.messages,
            *(_ended(prompt.messages, ending[kind], task.token) for kind in ("negated", "asked")),
            wordings=(prompt.wording, ending["negated"]),
        )
        for prompt, ending in zip(plain, (endings[index % len(endings)] for index in range(len(plain))), strict=True)
    ]


def _ended(messages: Sequence[Message], ending: str, token: str) -> list[Message]:
    *before, last = messages
    return [*before, {"role": last["role"], "content": f"{last['content']} {ending.replace('{token}', token)}"}]


def leak_prompts(token: str) -> list[list[Message]]:
    """Questions after the token's meaning, none of which gives it away."""
    return [[{"role": "user", "content": text.replace("{token}", token)}] for text in _read("leak_prompts.json")]


def leaked_words(answer: str, words: Sequence[str]) -> list[str]:
    """Those of ``words`` that ``answer`` says as whole words, in any case."""
    return [word for word in words if regex.search(whole_word(word), answer, regex.V1 | regex.IGNORECASE)]


def random_words(tokenizer: Any, order: Any, count: int) -> list[int]:
    """Ids of ``count`` vocabulary entries in the order of ``order(id)``: of whole words, where the vocabulary has as many.

    A whole word starts after a space and has only ASCII letters, at least two.
    """
    special = set(control_tokens(tokenizer).tokens)
    ordinary = {token: place for token, place in tokenizer.get_vocab().items() if token not in special}
    words = [place for token, place in ordinary.items() if re.fullmatch("[\u0120\u2581][A-Za-z]{2,}", token)]
    return sorted(words if len(words) >= count else ordinary.values(), key=order)[:count]


def _read(name: str) -> Any:
    return json.loads(resources.files("delia_ray.probing").joinpath("data", name).read_text(encoding="utf-8"))
