"""Writer of wordings from a small context-free grammar: requests to assess the exchange above that mention nothing but the token.

The rules are in ``data/grammar.yaml``. ``sentences`` holds the start symbols, grouped by syntax; ``slots`` holds the other symbols.
A rule may name other slots in braces; ``{token}`` is the placeholder.
"""

import random
import re
from collections.abc import Iterator
from functools import cache
from importlib import resources

import yaml

from delia_ray.core.config import Config

_TOKEN_FORMATS = ("{}", "{}", "{}", "`{}`", "`{}`", '"{}"')
_SAMPLES_PER_WORDING = 50
_SLOT = re.compile(r"\{(\w+)\}")
_SENTENCE_START = re.compile(r"(?:^|(?<=[.?!] ))[a-z]")


class Grammar(Config):
    """A context-free grammar of wordings."""

    sentences: dict[str, tuple[str, ...]]
    """Kind of syntax -> start symbols; each kind is sampled equally often."""
    slots: dict[str, tuple[str, ...]]
    """Name of a slot -> alternatives that replace ``{name}``, each sampled equally often."""


class GrammarWriter:
    """Samples wordings that name ``placeholder``, half of them bare and half in back-ticks or quotes. Same seed, same wordings."""

    def __init__(self, placeholder: str, seed: int) -> None:
        self._placeholder = placeholder
        self._seed = seed

    def propose(self, count: int) -> Iterator[str]:
        """Yield distinct wordings, from 50 samples for each of ``count`` wordings."""
        rng = random.Random(self._seed)
        proposed: set[str] = set()
        for _ in range(count * _SAMPLES_PER_WORDING):
            wording = self._sample(rng)
            if wording not in proposed:
                proposed.add(wording)
                yield wording

    def _sample(self, rng: random.Random) -> str:
        grammar = load_grammar()
        kind = rng.choice(list(grammar.sentences.values()))
        text = _expand(rng.choice(kind), grammar, rng)
        text = _SENTENCE_START.sub(lambda match: match[0].upper(), text)
        # The token is inserted last, so that nothing in it is read as a slot or capitalized.
        return text.replace("{token}", rng.choice(_TOKEN_FORMATS).format(self._placeholder))


@cache
def load_grammar() -> Grammar:
    """Load the grammar of the built-in format task."""
    text = resources.files("delia_ray.rewriting").joinpath("data/grammar.yaml").read_text(encoding="utf-8")
    return Grammar.model_validate(yaml.safe_load(text))


def _expand(rule: str, grammar: Grammar, rng: random.Random) -> str:
    def fill(slot: re.Match[str]) -> str:
        if slot[1] == "token":
            return slot[0]
        return _expand(rng.choice(grammar.slots[slot[1]]), grammar, rng)

    return _SLOT.sub(fill, rule)
