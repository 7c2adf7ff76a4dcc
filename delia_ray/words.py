"""Texts as words, for measures that compare texts."""

import re
from collections.abc import Iterator, Sequence

_WORD = re.compile(r"\w+")


def words_of(text: str) -> list[str]:
    """Runs of letters and digits, lower case."""
    return _WORD.findall(text.casefold())


def ngrams(words: Sequence[str], n: int) -> Iterator[tuple[str, ...]]:
    """Every n words in a row."""
    return zip(*(words[start:] for start in range(n)), strict=False)
