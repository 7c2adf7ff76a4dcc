"""Texts as words, for measures that compare texts: the one place that decides what a word is.

A word is a run of letters with their marks, digits and underscores. In scripts that put no space between words each letter, with
its marks, stands for one, and two of them count as a word where words are counted: an English word takes 1.5 to 2 Chinese characters.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal
from unicodedata import category, normalize

import regex

_UNSPACED = (
    "[[\u30fc\\p{Han}\\p{Hiragana}\\p{Katakana}\\p{Bopomofo}\\p{Yi}\\p{Tangut}\\p{Nushu}\\p{Thai}\\p{Lao}\\p{Khmer}\\p{Myanmar}"
    "\\p{Tai_Le}\\p{New_Tai_Lue}\\p{Tai_Tham}\\p{Tai_Viet}\\p{Ahom}\\p{Javanese}\\p{Balinese}]&&[\\p{L}\\p{Nl}]]"
)
"""Letters of scripts that are written without spaces. Tibetan is none: it parts its syllables."""
_SPACED = rf"[[\p{{L}}\p{{N}}_]--{_UNSPACED}]"
_RUN = rf"{_SPACED}[[\p{{L}}\p{{M}}\p{{N}}_]--{_UNSPACED}]*+"
_WORD = regex.compile(rf"{_UNSPACED}\p{{M}}*+|{_RUN}", regex.V1)
_UNIT = regex.compile(rf"{_UNSPACED}\p{{M}}*+|{_RUN}(?:['\u2019]{_RUN})*+", regex.V1)
_STARTS_UNSPACED = regex.compile(_UNSPACED, regex.V1)
_INVISIBLE = regex.compile(r"[\p{Default_Ignorable_Code_Point}--\u200b]+", regex.V1)
_PLAIN_WORD = re.compile(r"\w+")
_NOT_PLAIN = re.compile(
    "[\xad\u0300-\u036f\u0483-\u0489\u0591-\u1dff\u200b-\u200f\u202a-\u202e\u2060-\u206f\u20d0-\u20ff\u2c00-\U0001efff]"
)
"""Where Python's word characters would not do: marks, characters that are not seen, and scripts from Hebrew on."""
_MARKED_WORD = regex.compile(r"[\p{L}\p{N}_][\p{L}\p{M}\p{N}_]*+")
_MAYBE_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u1900-\u1bff\u2e80-\ua4cf\ua980-\uaaff\uf900-\ufaff\uff66-\uff9f\U00011700-\U0001174f"
    "\U00016fe0-\U0001b2ff\U00020000-\U0003ffff]"
)
"""Blocks that hold all of ``_UNSPACED``, and more: what has none of these takes a pattern that is three times as fast."""
_LETTERS_OF_WORD = 2

Script = Literal["japanese", "chinese", "korean", "other unspaced", "spaced"]


def words_of(text: str) -> list[str]:
    """The words of ``text``: compatibility forms unified (NFKC), case folded, without characters that are not seen."""
    folded = _folded(text)
    if folded.isascii() or not _NOT_PLAIN.search(folded):
        return _PLAIN_WORD.findall(folded)
    pattern = _WORD if _MAYBE_UNSPACED.search(folded) else _MARKED_WORD
    return pattern.findall(_INVISIBLE.sub("", folded))


def first_words(text: str, count: int) -> list[str]:
    """The first ``count`` words, ``don't`` being one; of a script without spaces, twice as many letters."""
    first: list[str] = []
    weight = 0
    for found in _UNIT.finditer(_INVISIBLE.sub("", _folded(text))):
        first.append(found.group())
        weight += _weight(first[-1])
        if weight >= count * _LETTERS_OF_WORD:
            break
    return first


def _folded(text: str) -> str:
    return text.lower() if text.isascii() else normalize("NFKC", normalize("NFKC", text).casefold())


def word_count(words: Sequence[str]) -> int:
    """How many words ``words`` are, two letters of a script without spaces being one; rounded up."""
    return -(-sum(map(_weight, words)) // _LETTERS_OF_WORD)


def spaced_count(text: str) -> int:
    """How many words ``text`` has between white space; of scripts without spaces, two letters are one."""
    return word_count(words_of(text)) if _STARTS_UNSPACED.search(text) else len(text.split())


def _weight(word: str) -> int:
    return 1 if is_unspaced(word) else _LETTERS_OF_WORD


def is_unspaced(word: str) -> bool:
    """Whether ``word`` is a letter of a script that is written without spaces."""
    return not word.isascii() and _STARTS_UNSPACED.match(word) is not None


def ngrams(words: Sequence[str], n: int) -> Iterator[tuple[str, ...]]:
    """Every n of ``words`` in a row; a letter that stands for a word counts as one."""
    return zip(*(words[start:] for start in range(n)), strict=False)


def runs(words: Sequence[str], n: int) -> Iterator[tuple[str, ...]]:
    """Every run of n words; of a script without spaces, of 2n letters. Two texts that have n words in a row in common share one."""
    # One look at the whole text: asking each word of a plain text would take as long as all the rest.
    plain = "".join(words).isascii() or not any(map(is_unspaced, words))
    return ngrams(words, n) if plain else _weighted_runs(words, n)


def _weighted_runs(words: Sequence[str], n: int) -> Iterator[tuple[str, ...]]:
    weights = [*map(_weight, words)]
    end = total = 0
    for start, weight in enumerate(weights):
        while total < n * _LETTERS_OF_WORD:
            if end == len(words):
                return
            total += weights[end]
            end += 1
        yield tuple(words[start:end])
        total -= weight


def whole_word(word: str, *, ending: str = "", joiners: str = "_") -> str:
    """A pattern for ``regex`` that finds ``word`` where no word goes on at either end.

    Letters of scripts without spaces end a word, and need no end themselves.

    Args:
        ending: a pattern of what may follow ``word``.
        joiners: what goes on with a word beside letters, marks and digits.
    """
    inside = rf"[[\p{{L}}\p{{M}}\p{{N}}{joiners}]--{_UNSPACED}]"
    words = words_of(word) or [""]
    before = f"(?<!{inside})" if _in_run(word[:1]) and not is_unspaced(words[0]) else ""
    after = f"(?!{inside})" if _in_run(word[-1:]) and not is_unspaced(words[-1]) else ""
    return f"{before}{regex.escape(word)}{ending}{after}"


def _in_run(character: str) -> bool:
    return category(character)[0] in "LMN"


def main_script(texts: Iterable[str]) -> Script:
    """How the words of ``texts`` are mostly written. Kana make a text Japanese, since no other language has them."""
    kinds = Counter(_script(word) for text in texts for word in words_of(text))
    unspaced = kinds["kana"] + kinds["han"] + kinds["other unspaced"]
    if kinds["korean"] > max(unspaced, kinds["spaced"]):
        return "korean"
    if unspaced <= kinds["spaced"] + kinds["korean"]:
        return "spaced"
    if kinds["other unspaced"] > kinds["kana"] + kinds["han"]:
        return "other unspaced"
    return "japanese" if kinds["kana"] * 10 > kinds["kana"] + kinds["han"] else "chinese"


def _script(word: str) -> str:
    if word.isascii():
        return "spaced"
    return next((name for name, pattern in _SCRIPTS if pattern.match(word)), "spaced")


_SCRIPTS = (
    ("kana", regex.compile("[\u30fc\\p{Hiragana}\\p{Katakana}]")),
    ("han", regex.compile(r"\p{Han}")),
    ("korean", regex.compile(r"\p{Hangul}")),
    ("other unspaced", regex.compile(rf"[{_UNSPACED}\p{{Tibetan}}]", regex.V1)),
)
