"""Which generated rows are worth keeping. Each refusal has a name, and the refused row is kept beside it."""

import re
import zlib

_REFUSAL = re.compile(
    r"^\W*(i'?m sorry|i am sorry|sorry,|i can(?:'|no)t|i am unable|i'?m unable|i'?m not able|as an ai\b|as a language model"
    r"|i don'?t have (?:access|the ability))",
    re.IGNORECASE,
)
_LOOP_RATIO = 0.3
_LOOP_MIN_BYTES = 200
_SENTENCE_END = re.compile(r"[.?!](?=\s|$)")
_WORD = re.compile(r"\w")


def whole_sentences(text: str) -> str | None:
    """``text`` up to the end of its last whole sentence, or None where it has none."""
    ends = list(_SENTENCE_END.finditer(text))
    return text[: ends[-1].end()] if ends else None


def refuse_query(text: str, finished: bool, control_tokens: tuple[str, ...]) -> str | None:
    """Why a generated query is not usable, or None.

    Args:
        text: the query.
        finished: whether the model ended it within its token limit.
        control_tokens: the chat template's own tokens, which text must not smuggle in.
    """
    if not _WORD.search(text):
        return "empty"
    if not finished:
        return "truncated"
    if any(token in text for token in control_tokens):
        return "control token"
    if is_loop(text):
        return "loop"
    return None


def refuse_answer(text: str, finished: bool, control_tokens: tuple[str, ...]) -> str | None:
    """Why an answer is not usable, or None: as for a query, and refusals ("I'm sorry, but ...")."""
    reason = refuse_query(text, finished, control_tokens)
    if reason is None and _REFUSAL.search(text):
        return "refusal"
    return reason


def is_loop(text: str) -> bool:
    """Whether ``text`` repeats itself: it deflates to less than 0.3 of its length (ordinary prose stays above 0.4), or its last
    sentence-sized piece stands in it three times."""
    raw = text.encode()
    if len(raw) >= _LOOP_MIN_BYTES and len(zlib.compress(raw)) / len(raw) < _LOOP_RATIO:
        return True
    tail = text[-30:]
    return len(text) >= 90 and text.count(tail) >= 3
