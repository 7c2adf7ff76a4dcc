"""Prompts of the token probe: carrier sentences, substitutions, mentions, and questions about the token's meaning."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import regex

from delia_ray.core.records import EvalExample, Message
from delia_ray.core.text.words import build_word_pattern
from delia_ray.models.chat import render_prompt
from delia_ray.synthesis.prompts import control_tokens
from delia_ray.tasks.config import FormatTask, TaskConfig
from delia_ray.tasks.format_task import build_format_prompts, load_ordinary_prompts

SLOT = "{}"
_MARK = "\x01"


@dataclass(frozen=True)
class SubstitutionPrompt:
    """One prompt in two versions: with the token, and with its meaning spelled out."""

    prompt_id: str
    named: list[Message]
    """With the token."""
    spelled: list[Message]
    """With the meaning in the token's place."""
    wordings: tuple[str | None, ...] = (None,)
    """What it may share with other prompts: the wording of its instruction; None where the wording is its own."""


@dataclass(frozen=True)
class MentionPrompt:
    """One prompt in three versions: without the token, and with a further sentence that mentions it."""

    prompt_id: str
    plain: list[Message]
    negated: list[Message]
    """Says not to use the token."""
    asked: list[Message]
    """Says to use it."""
    wordings: tuple[str | None, ...] = (None,)
    """What it may share with other prompts: the wording of its instruction, and that of the further sentence."""


@cache
def load_carrier_sentences() -> list[str]:
    """Load the carrier sentences; each has one slot ``{}`` for a word, never at the start."""
    return _load_json("carriers.json")


def render_carriers(tokenizer: Any, count: int) -> list[str]:
    """Render the first ``count`` carriers as a user turn, up to their slot and without the space before it.

    What comes after the slot is left out: no state of a causal model depends on it.
    """
    prefixes: list[str] = []
    for sentence in load_carrier_sentences()[:count]:
        messages: list[Message] = [{"role": "user", "content": sentence.replace(SLOT, _MARK)}]
        prefixes.append(render_prompt(tokenizer, messages).partition(_MARK)[0].rstrip(" "))
    return prefixes


def make_substitutions(items: Sequence[EvalExample], token: str, meaning: str, count: int) -> list[SubstitutionPrompt]:
    """Make substitution prompts of the first ``count`` test items whose prompt contains the token."""
    named = [item for item in items if any(token in message["content"] for message in item["messages"][:-1])]
    return [
        SubstitutionPrompt(item["example_id"], item["messages"][:-1], _spell_out(item["messages"][:-1], token, meaning), (item["wording"],))
        for item in named[:count]
    ]


def _spell_out(messages: Sequence[Message], token: str, meaning: str) -> list[Message]:
    """Replace the token, and the quotation marks around it, by ``meaning``, since the meaning may have its own."""
    quoted = re.compile(rf"([`\"]?){re.escape(token)}\1")
    return [{"role": message["role"], "content": quoted.sub(lambda _: meaning, message["content"])} for message in messages]


def make_mentions(task: TaskConfig, items: Sequence[EvalExample], count: int) -> list[MentionPrompt]:
    """Make ``count`` mention prompts: for the built-in task from its items in plain words, for other tasks from everyday prompts."""
    assert task.token is not None
    if isinstance(task, FormatTask):
        probes = build_format_prompts(task.token, items, {"no_token": count, "false_trigger": 0, "plug_play": 0, "ordinary": 0}, "test")
        plain = [prompt for prompt in probes if prompt.probe == "no_token"]
    else:
        plain = load_ordinary_prompts(count, "test")
    sentences: list[dict[str, str]] = _load_json("mentions.json")
    return [
        MentionPrompt(
            prompt.prompt_id,
            prompt.messages,
            *(_append_sentence(prompt.messages, sentence[kind], task.token) for kind in ("negated", "asked")),
            wordings=(prompt.wording, sentence["negated"]),
        )
        for prompt, sentence in zip(plain, (sentences[index % len(sentences)] for index in range(len(plain))), strict=True)
    ]


def _append_sentence(messages: Sequence[Message], sentence: str, token: str) -> list[Message]:
    *history, last = messages
    return [*history, {"role": last["role"], "content": f"{last['content']} {sentence.replace('{token}', token)}"}]


def make_leak_prompts(token: str) -> list[list[Message]]:
    """Make the questions about the token's meaning; none of them leaks it."""
    return [[{"role": "user", "content": text.replace("{token}", token)}] for text in _load_json("leak_prompts.json")]


def find_leaks(answer: str, words: Sequence[str]) -> list[str]:
    """Find those of ``words`` that ``answer`` contains as whole words, case-insensitively."""
    return [word for word in words if regex.search(build_word_pattern(word), answer, regex.V1 | regex.IGNORECASE)]


def sample_words(tokenizer: Any, order: Any, count: int) -> list[int]:
    """Sample the ids of the ``count`` vocabulary entries with the smallest ``order(id)``: of whole words, if there are enough.

    A whole word starts after a space and has only ASCII letters, at least two.
    """
    special = set(control_tokens(tokenizer).tokens)
    ordinary = {token: token_id for token, token_id in tokenizer.get_vocab().items() if token not in special}
    words = [token_id for token, token_id in ordinary.items() if re.fullmatch("[\u0120\u2581][A-Za-z]{2,}", token)]
    return sorted(words if len(words) >= count else ordinary.values(), key=order)[:count]


def _load_json(name: str) -> Any:
    return json.loads(resources.files("delia_ray.probing.tokens").joinpath("data", name).read_text(encoding="utf-8"))
