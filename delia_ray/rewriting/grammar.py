"""Wordings from a small context-free grammar: requests to assess the exchange above that name nothing but the token.

The rules are in ``data/grammar.yaml``. ``sentences`` holds the start symbols, grouped by syntax; ``slots`` the rest.
A rule may name other slots in braces; ``{token}`` is the placeholder.
"""

import random
import re
from collections.abc import Iterator
from functools import cache
from importlib import resources

import yaml

from delia_ray.config import Config

_TOKEN_MARKS = ("{}", "{}", "{}", "`{}`", "`{}`", '"{}"')
_TRIES_PER_WORDING = 50
_SLOT = re.compile(r"\{(\w+)\}")
_SENTENCE_START = re.compile(r"(?:^|(?<=[.?!] ))[a-z]")


class Grammar(Config):
    """A context-free grammar of wordings."""

    sentences: dict[str, tuple[str, ...]]
    """Start symbols by kind of syntax; each kind is drawn equally often."""
    slots: dict[str, tuple[str, ...]]
    """What may stand for ``{name}``, each alternative drawn equally often."""


class GrammarWriter:
    """Draws wordings that name ``placeholder``, half of them bare and half in back-ticks or quotes. Same seed, same wordings."""

    def __init__(self, placeholder: str, seed: int) -> None:
        self._placeholder = placeholder
        self._seed = seed

    def propose(self, count: int) -> Iterator[str]:
        """At most 50 draws for each of ``count`` wordings, repeats left out."""
        rng = random.Random(self._seed)
        drawn: set[str] = set()
        for _ in range(count * _TRIES_PER_WORDING):
            wording = self._draw(rng)
            if wording not in drawn:
                drawn.add(wording)
                yield wording

    def _draw(self, rng: random.Random) -> str:
        grammar = load_grammar()
        kind = rng.choice(list(grammar.sentences.values()))
        text = _expand(rng.choice(kind), grammar, rng)
        text = _SENTENCE_START.sub(lambda match: match[0].upper(), text)
        # Last, so that nothing in the user's token is read as a slot or capitalised.
        return text.replace("{token}", rng.choice(_TOKEN_MARKS).format(self._placeholder))


@cache
def load_grammar() -> Grammar:
    """The grammar of the built-in format task."""
    text = resources.files("delia_ray.rewriting").joinpath("data/grammar.yaml").read_text(encoding="utf-8")
    return Grammar.model_validate(yaml.safe_load(text))


def _expand(rule: str, grammar: Grammar, rng: random.Random) -> str:
    def fill(slot: re.Match[str]) -> str:
        if slot[1] == "token":
            return slot[0]
        return _expand(rng.choice(grammar.slots[slot[1]]), grammar, rng)

    return _SLOT.sub(fill, rule)
