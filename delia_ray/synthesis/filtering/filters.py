"""Filters of generated queries and answers: each returns the reason for rejection, or None."""

import re
import zlib

import regex

from delia_ray.models.control_tokens import ControlTokens
from delia_ray.synthesis.filtering.refusals import is_refusal

_LOOP_RATIO = 0.3
_LOOP_MIN_BYTES = 200
_CLOSING = r"[\p{Pe}\p{Pf}\"']*"
_SENTENCE_END = regex.compile(rf"[.?!]{_CLOSING}(?=\s|$)|[\p{{Sentence_Terminal}}\u2026--[.?!]]{_CLOSING}", regex.V1)
"""A full stop needs white space after it ("3.5"); a sentence terminator of another script, such as Chinese or Hindi, does not."""
_WORD = re.compile(r"\w")


def cut_to_whole_sentences(text: str) -> str | None:
    """Cut ``text`` after its last complete sentence; return None if it has none."""
    ends = list(_SENTENCE_END.finditer(text))
    return text[: ends[-1].end()] if ends else None


def reject_query(text: str, finished: bool, control: ControlTokens) -> str | None:
    """Return the reason to reject a query, or None.

    Args:
        text: the query.
        finished: whether the model ended it within its token limit.
        control: finds the chat template's control tokens, which a text must not contain.
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


def reject_answer(text: str, finished: bool, control: ControlTokens) -> str | None:
    """Return the reason to reject an answer, or None: the reasons of a query, and refusals ("I'm sorry, but I can't ...")."""
    reason = reject_query(text, finished, control)
    if reason is None and is_refusal(text):
        return "refusal"
    return reason


def is_loop(text: str) -> bool:
    """Whether ``text`` is a repetition loop.

    It is one if it deflates to less than 0.3 of its length (ordinary prose stays above 0.4), or if its last 30 characters occur in
    it three times.
    """
    if len(text.encode()) >= _LOOP_MIN_BYTES:
        raw = _encode_characters(text)
        if len(zlib.compress(raw)) / len(raw) < _LOOP_RATIO:
            return True
    tail = text[-30:]
    return len(text) >= 90 and text.count(tail) >= 3


def _encode_characters(text: str) -> bytes:
    """Encode each character as one byte, or as two where there are more than 256 different ones.

    In UTF-8 the letters of most scripts share their first bytes, which would look like repetition.
    """
    if text.isascii():
        return text.encode()
    ranks = {ord(character): rank for rank, character in enumerate(dict.fromkeys(text))}
    return text.translate(ranks).encode("latin-1" if len(ranks) <= 256 else "utf-16-le", "surrogatepass")
