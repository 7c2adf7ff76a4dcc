"""Word segmentation for text measures: splits, counts and n-grams of words in all scripts.

A word is a sequence of letters with their marks, digits and underscores. In scripts without spaces between words each letter, with
its marks, is a word, and two of them count as one where words are counted: an English word takes 1.5 to 2 Chinese characters.
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
"""Letters of scripts written without spaces. Tibetan is not one of them: it separates its syllables."""
_SPACED = rf"[[\p{{L}}\p{{N}}_]--{_UNSPACED}]"
_SPACED_WORD = rf"{_SPACED}[[\p{{L}}\p{{M}}\p{{N}}_]--{_UNSPACED}]*+"
_WORD = regex.compile(rf"{_UNSPACED}\p{{M}}*+|{_SPACED_WORD}", regex.V1)
_CONTRACTED_WORD = regex.compile(rf"{_UNSPACED}\p{{M}}*+|{_SPACED_WORD}(?:['\u2019]{_SPACED_WORD})*+", regex.V1)
_STARTS_UNSPACED = regex.compile(_UNSPACED, regex.V1)
_INVISIBLE = regex.compile(r"[\p{Default_Ignorable_Code_Point}--\u200b]+", regex.V1)
_PLAIN_WORD = re.compile(r"\w+")
_NOT_PLAIN = re.compile(
    "[\xad\u0300-\u036f\u0483-\u0489\u0591-\u1dff\u200b-\u200f\u202a-\u202e\u2060-\u206f\u20d0-\u20ff\u2c00-\U0001efff]"
)
"""Characters for which Python's ``\\w`` is not enough: marks, invisible characters, and scripts from Hebrew on."""
_MARKED_WORD = regex.compile(r"[\p{L}\p{N}_][\p{L}\p{M}\p{N}_]*+")
_MAYBE_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u1900-\u1bff\u2e80-\ua4cf\ua980-\uaaff\uf900-\ufaff\uff66-\uff9f\U00011700-\U0001174f"
    "\U00016fe0-\U0001b2ff\U00020000-\U0003ffff]"
)
"""Unicode blocks that include all of ``_UNSPACED``: texts without them are matched by a pattern that is three times as fast."""
_LETTERS_PER_WORD = 2

Script = Literal["japanese", "chinese", "korean", "other unspaced", "spaced"]


def split_words(text: str) -> list[str]:
    """Split ``text`` into words, after NFKC normalization and case folding, without invisible characters."""
    folded = _fold(text)
    if folded.isascii() or not _NOT_PLAIN.search(folded):
        return _PLAIN_WORD.findall(folded)
    pattern = _WORD if _MAYBE_UNSPACED.search(folded) else _MARKED_WORD
    return pattern.findall(_INVISIBLE.sub("", folded))


def take_first_words(text: str, count: int) -> list[str]:
    """Return the first ``count`` words, a contraction (``don't``) as one; in scripts without spaces twice as many letters."""
    first: list[str] = []
    weight = 0
    for match in _CONTRACTED_WORD.finditer(_INVISIBLE.sub("", _fold(text))):
        first.append(match.group())
        weight += _weight(first[-1])
        if weight >= count * _LETTERS_PER_WORD:
            break
    return first


def _fold(text: str) -> str:
    """Normalize ``text`` (NFKC) and fold its case."""
    return text.lower() if text.isascii() else normalize("NFKC", normalize("NFKC", text).casefold())


def count_words(words: Sequence[str]) -> int:
    """Count ``words``, with two letters of a script without spaces as one word; rounded up."""
    return -(-sum(map(_weight, words)) // _LETTERS_PER_WORD)


def count_whitespace_words(text: str) -> int:
    """Count the words of ``text`` separated by whitespace; in scripts without spaces, two letters are one word."""
    return count_words(split_words(text)) if _STARTS_UNSPACED.search(text) else len(text.split())


def _weight(word: str) -> int:
    return 1 if is_unspaced(word) else _LETTERS_PER_WORD


def is_unspaced(word: str) -> bool:
    """Whether ``word`` is a letter of a script written without spaces."""
    return not word.isascii() and _STARTS_UNSPACED.match(word) is not None


def ngrams(words: Sequence[str], n: int) -> Iterator[tuple[str, ...]]:
    """n-grams of ``words``; a letter of a script without spaces counts as one word."""
    return zip(*(words[start:] for start in range(n)), strict=False)


def weighted_ngrams(words: Sequence[str], n: int) -> Iterator[tuple[str, ...]]:
    """n-grams of n words, or of 2n letters in scripts without spaces. Two texts that share n consecutive words share one of them."""
    # One test of the whole text: testing each word of a plain text would take as long as all the rest.
    is_plain = "".join(words).isascii() or not any(map(is_unspaced, words))
    return ngrams(words, n) if is_plain else _iter_weighted_ngrams(words, n)


def _iter_weighted_ngrams(words: Sequence[str], n: int) -> Iterator[tuple[str, ...]]:
    weights = [*map(_weight, words)]
    end = total = 0
    for start, weight in enumerate(weights):
        while total < n * _LETTERS_PER_WORD:
            if end == len(words):
                return
            total += weights[end]
            end += 1
        yield tuple(words[start:end])
        total -= weight


def build_word_pattern(word: str, *, ending: str = "", joiners: str = "_") -> str:
    """Build a ``regex`` pattern that matches ``word`` as a whole word.

    Letters of scripts without spaces are word boundaries, and need none themselves.

    Args:
        ending: a pattern that can follow ``word``, such as a suffix.
        joiners: characters that continue a word, besides letters, marks and digits.
    """
    inside = rf"[[\p{{L}}\p{{M}}\p{{N}}{joiners}]--{_UNSPACED}]"
    words = split_words(word) or [""]
    before = f"(?<!{inside})" if _is_word_character(word[:1]) and not is_unspaced(words[0]) else ""
    after = f"(?!{inside})" if _is_word_character(word[-1:]) and not is_unspaced(words[-1]) else ""
    return f"{before}{regex.escape(word)}{ending}{after}"


def _is_word_character(character: str) -> bool:
    return category(character)[0] in "LMN"


def detect_script(texts: Iterable[str]) -> Script:
    """Return the script of most words of ``texts``. Kana make a text Japanese, since no other language uses them."""
    kinds = Counter(_classify_script(word) for text in texts for word in split_words(text))
    unspaced = kinds["kana"] + kinds["han"] + kinds["other unspaced"]
    if kinds["korean"] > max(unspaced, kinds["spaced"]):
        return "korean"
    if unspaced <= kinds["spaced"] + kinds["korean"]:
        return "spaced"
    if kinds["other unspaced"] > kinds["kana"] + kinds["han"]:
        return "other unspaced"
    return "japanese" if kinds["kana"] * 10 > kinds["kana"] + kinds["han"] else "chinese"


def _classify_script(word: str) -> str:
    if word.isascii():
        return "spaced"
    return next((name for name, pattern in _SCRIPTS if pattern.match(word)), "spaced")


_SCRIPTS = (
    ("kana", regex.compile("[\u30fc\\p{Hiragana}\\p{Katakana}]")),
    ("han", regex.compile(r"\p{Han}")),
    ("korean", regex.compile(r"\p{Hangul}")),
    ("other unspaced", regex.compile(rf"[{_UNSPACED}\p{{Tibetan}}]", regex.V1)),
)
