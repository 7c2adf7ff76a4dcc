"""Filter for the wordings of all writers: each must keep the token, must not leak its meaning, and must differ from all others."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import regex

from delia_ray.core.text.rouge import find_most_similar, split_rouge_words
from delia_ray.core.text.words import build_word_pattern, count_words

SHAPE_WORDS = ("JSON", "YAML", "XML", "dict", "dictionary", "key", "field", "brace", "bracket", "schema", "attribute", "{", "}")
"""Words that describe the format of an answer. A task adds its own key names and labels."""

MIN_WORDS = 3
MAX_WORDS = 60

Reason = Literal["placeholder", "leak", "lines", "length", "similarity"]


@dataclass(frozen=True)
class Accepted:
    """A wording that passed the filter."""

    wording: str


@dataclass(frozen=True)
class Rejected:
    """A wording that did not pass the filter, and why."""

    wording: str
    reason: Reason
    detail: str


class WordingFilter:
    """Checks wordings one at a time, each also against all that were accepted before it.

    Args:
        placeholder: the token that every wording must contain literally, at least once; empty for a task without a token.
        forbidden: words that would leak the token's meaning. Matched as whole words (an underscore ends a word, as does a letter of a
            script without spaces), case-insensitively, also with a plural ``s`` or ``es``. The placeholder itself never matches.
        max_similarity: ROUGE-L F1 with any accepted wording must stay below this; 1.0 still rejects repeats.
    """

    def __init__(self, placeholder: str, forbidden: Sequence[str], max_similarity: float) -> None:
        self._placeholder = placeholder
        self._leak_pattern = (
            regex.compile("|".join(map(_build_word_pattern, forbidden)), regex.V1 | regex.IGNORECASE) if forbidden else None
        )
        self._max_similarity = max_similarity
        self._wordings: list[str] = []
        self._words: list[tuple[str, ...]] = []

    def check(self, wording: str) -> Accepted | Rejected:
        """Check ``wording``; an accepted one is remembered, and later wordings are compared with it."""
        words = split_rouge_words(wording)
        rejection = self._reject_by_content(wording, words) or self._reject_by_similarity(wording, words)
        if rejection is not None:
            return rejection
        self._wordings.append(wording)
        self._words.append(words)
        return Accepted(wording)

    def _reject_by_content(self, wording: str, words: tuple[str, ...]) -> Rejected | None:
        if len(wording.splitlines()) > 1:
            return Rejected(wording, "lines", "it spans more than one line")
        if not MIN_WORDS <= (length := count_words(words)) <= MAX_WORDS:
            return Rejected(wording, "length", f"{length} words, outside {MIN_WORDS}..{MAX_WORDS}")
        if self._placeholder not in wording:
            return Rejected(wording, "placeholder", f"{self._placeholder} is not in it")
        rest = wording.replace(self._placeholder, " ") if self._placeholder else wording
        leak = self._leak_pattern.search(rest) if self._leak_pattern else None
        return Rejected(wording, "leak", f"it says {leak[0]!r}") if leak else None

    def _reject_by_similarity(self, wording: str, words: tuple[str, ...]) -> Rejected | None:
        similarity, index = find_most_similar(words, self._words)
        if similarity >= self._max_similarity:
            return Rejected(wording, "similarity", f"ROUGE-L {similarity:.2f} with {self._wordings[index]!r}")
        return None


def _build_word_pattern(word: str) -> str:
    """Build the pattern of a whole word, also with a plural ``s`` or ``es``; an underscore ends the word."""
    return build_word_pattern(word, ending="(?:e?s)?" if word[-1:].isalnum() else "", joiners="")
