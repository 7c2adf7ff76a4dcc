"""Which generated rows are worth keeping. Each refusal has a name, and the refused row is kept beside it."""

import re
import zlib

import regex

from delia_ray.models.control_tokens import ControlTokens
from delia_ray.synthesis.refusals import is_refusal

_LOOP_RATIO = 0.3
_LOOP_MIN_BYTES = 200
_CLOSING = r"[\p{Pe}\p{Pf}\"']*"
_SENTENCE_END = regex.compile(rf"[.?!]{_CLOSING}(?=\s|$)|[\p{{Sentence_Terminal}}\u2026--[.?!]]{_CLOSING}", regex.V1)
"""A full stop needs white space after it ("3.5"); one of another script, such as the Chinese or the Hindi one, does not."""
_WORD = re.compile(r"\w")


def whole_sentences(text: str) -> str | None:
    """``text`` up to the end of its last whole sentence, or None where it has none."""
    ends = list(_SENTENCE_END.finditer(text))
    return text[: ends[-1].end()] if ends else None


def refuse_query(text: str, finished: bool, control: ControlTokens) -> str | None:
    """Why a generated query is not usable, or None.

    Args:
        text: the query.
        finished: whether the model ended it within its token limit.
        control: finds the chat template's own tokens, which text must not smuggle in.
    """
    if not _WORD.search(text):
        return "empty"
    if not finished:
        return "truncated"
    if control(text) is not None:
        return "control token"
    if is_loop(text):
        return "loop"
    return None


def refuse_answer(text: str, finished: bool, control: ControlTokens) -> str | None:
    """Why an answer is not usable, or None: as for a query, and refusals ("I'm sorry, but I can't ...")."""
    reason = refuse_query(text, finished, control)
    if reason is None and is_refusal(text):
        return "refusal"
    return reason


def is_loop(text: str) -> bool:
    """Whether ``text`` repeats itself: it deflates to less than 0.3 of its length (ordinary prose stays above 0.4), or its last
    sentence-sized piece stands in it three times."""
    if len(text.encode()) >= _LOOP_MIN_BYTES:
        raw = _letters(text)
        if len(zlib.compress(raw)) / len(raw) < _LOOP_RATIO:
            return True
    tail = text[-30:]
    return len(text) >= 90 and text.count(tail) >= 3


def _letters(text: str) -> bytes:
    """A byte for each character, or two where there are more than 256 different ones.

    In UTF-8 a letter of most scripts begins with bytes that all its neighbours have, which would look like repetition.
    """
    if text.isascii():
        return text.encode()
    ranks = {ord(character): rank for rank, character in enumerate(dict.fromkeys(text))}
    return text.translate(ranks).encode("latin-1" if len(ranks) <= 256 else "utf-16-le", "surrogatepass")
