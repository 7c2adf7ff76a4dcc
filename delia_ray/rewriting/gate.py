"""The gate every wording passes, whoever wrote it: token kept, meaning not given away, unlike all others."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import regex

from delia_ray.rouge import nearest, rouge_words
from delia_ray.words import whole_word, word_count

SHAPE_WORDS = ("JSON", "YAML", "XML", "dict", "dictionary", "key", "field", "brace", "bracket", "schema", "attribute", "{", "}")
"""Words that describe the shape of an answer. A task adds its own key names and labels."""

MIN_WORDS = 3
MAX_WORDS = 60

Reason = Literal["placeholder", "leak", "lines", "length", "similarity"]


@dataclass(frozen=True)
class Admitted:
    """A wording that passed. The gate remembers it."""

    wording: str


@dataclass(frozen=True)
class Refused:
    """A wording that did not pass, and why."""

    wording: str
    reason: Reason
    detail: str


class Gate:
    """Admits wordings one at a time; each is held against all that were admitted before it.

    Args:
        placeholder: the token every wording must name, literally, at least once; empty for a task without a token.
        forbidden: words that would give away what the token means. Matched as whole words (an underscore ends a word, as does
            a letter of a script without spaces), in any case, with a plural ``s`` or ``es`` counted in. The placeholder itself
            never counts.
        max_similarity: ROUGE-L F1 with any admitted wording must stay below this; 1.0 still refuses repeats.
    """

    def __init__(self, placeholder: str, forbidden: Sequence[str], max_similarity: float) -> None:
        self._placeholder = placeholder
        self._leak = regex.compile("|".join(map(_plural_too, forbidden)), regex.V1 | regex.IGNORECASE) if forbidden else None
        self._max_similarity = max_similarity
        self._wordings: list[str] = []
        self._words: list[tuple[str, ...]] = []

    def admit(self, wording: str) -> Admitted | Refused:
        """Judge ``wording``; an admitted one narrows the gate for the next."""
        words = rouge_words(wording)
        refusal = self._refuse_alone(wording, words) or self._refuse_beside_others(wording, words)
        if refusal is not None:
            return refusal
        self._wordings.append(wording)
        self._words.append(words)
        return Admitted(wording)

    def _refuse_alone(self, wording: str, words: tuple[str, ...]) -> Refused | None:
        if len(wording.splitlines()) > 1:
            return Refused(wording, "lines", "it spans more than one line")
        if not MIN_WORDS <= (length := word_count(words)) <= MAX_WORDS:
            return Refused(wording, "length", f"{length} words, outside {MIN_WORDS}..{MAX_WORDS}")
        if self._placeholder not in wording:
            return Refused(wording, "placeholder", f"{self._placeholder} is not in it")
        rest = wording.replace(self._placeholder, " ") if self._placeholder else wording
        leak = self._leak.search(rest) if self._leak else None
        return Refused(wording, "leak", f"it says {leak[0]!r}") if leak else None

    def _refuse_beside_others(self, wording: str, words: tuple[str, ...]) -> Refused | None:
        similarity, index = nearest(words, self._words)
        if similarity >= self._max_similarity:
            return Refused(wording, "similarity", f"ROUGE-L {similarity:.2f} with {self._wordings[index]!r}")
        return None


def _plural_too(word: str) -> str:
    """As a whole word, an underscore ending it, with a plural ``s`` or ``es``."""
    return whole_word(word, ending="(?:e?s)?" if word[-1:].isalnum() else "", joiners="")
