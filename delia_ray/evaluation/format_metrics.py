"""T2, formatted text generation: which outputs are in the format, and the rates over them (METHOD 4).

Shape legend: N items, R resamples. Every rate reduces the last axis, so it takes ``[N]`` or a bootstrap's ``[R, N]`` alike.
Predictions and gold labels are ``int8`` codes: ``YES``, ``NO``, and for predictions ``INVALID``.
"""

import ast
import json
import math
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NoReturn, TypeAlias, assert_never

import numpy as np
from numpy.typing import NDArray

Label: TypeAlias = Literal["yes", "no"]
Mode: TypeAlias = Literal["json", "python"]
Codes: TypeAlias = NDArray[np.int8]
Rates: TypeAlias = NDArray[np.float64]

NO, YES, INVALID = 0, 1, -1
_CODE_OF_LABEL: dict[str, int] = {"no": NO, "yes": YES}

_MAX_LITERAL_CHARS = 65_536  # the Python parser's time and memory grow faster than its input; no honest answer is this long
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class Verdict:
    """An output that is in the format."""

    thought: str
    hallucination: Label


def parse_verdict(text: str, mode: Mode) -> Verdict | None:
    """The verdict that the whole trimmed ``text`` spells, or None if it spells anything else.

    In the format is one object with exactly the keys ``thought`` (a string that is not blank) and ``hallucination``
    (``"yes"`` or ``"no"``), each once. Never raises, whatever a model wrote.

    Args:
        text: a whole generation.
        mode: ``json``, or ``python`` for a literal as the paper's authors wrote their targets.
    """
    match mode:
        case "json":
            value = _json_or_none(text.strip())
        case "python":
            value = _literal_or_none(text.strip())
        case _:
            assert_never(mode)
    match value:
        case {"thought": str(thought), "hallucination": "yes" | "no" as label, **others} if not others and thought.strip():
            # An escaped half of a surrogate pair parses, but is no text: it could not be stored or shown.
            return None if _LONE_SURROGATE.search(thought) else Verdict(thought, label)
        case _:
            return None


def strict_json(text: str) -> Any:
    """``text`` as JSON, taking nothing that the standard leaves open (RFC 8259).

    Equal numbers come back equal in value and type: ``1.0`` and ``1e0`` are the int 1.

    Raises:
        ValueError: it is not JSON, or repeats a key, holds a number that is not finite, or nests too deep to read.
    """
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant, parse_float=_finite)
    except RecursionError:
        raise ValueError("JSON nested too deep") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) < len(pairs):
        raise ValueError("JSON object with a repeated key")
    return unique


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("JSON number out of range")
    return int(number) if number.is_integer() else number


def _json_or_none(text: str) -> Any:
    try:
        return strict_json(text)
    except ValueError:
        return None


def _literal_or_none(text: str) -> Any:
    if len(text) > _MAX_LITERAL_CHARS:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an unknown escape such as \d warns, and with warnings as errors would fail
            node = ast.parse(text, mode="eval").body
        # Two entries and, later, two different keys: so no key is repeated, which a dict alone could not tell.
        return ast.literal_eval(node) if isinstance(node, ast.Dict) and len(node.keys) == 2 else None
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):  # TypeError: a list as a key
        return None


def prediction_codes(verdicts: Sequence[Verdict | None]) -> Codes:
    """``[N]`` codes of what was predicted; an output that is not in the format is ``INVALID``."""
    return np.array([INVALID if verdict is None else _CODE_OF_LABEL[verdict.hallucination] for verdict in verdicts], dtype=np.int8)


def label_codes(labels: Sequence[Label]) -> Codes:
    """``[N]`` codes of the gold labels."""
    return np.array([_CODE_OF_LABEL[label] for label in labels], dtype=np.int8)


def format_acc(predicted_RN: Codes) -> Rates:
    """FormatAcc, and as well NoToken, Spill, FalseTrigger and PlugPlay on their prompts: the share that is in the format."""
    return (predicted_RN != INVALID).mean(axis=-1)


def label_acc(predicted_RN: Codes, gold_RN: Codes) -> Rates:
    """LabelAcc: the share that is in the format and says the right label."""
    return (predicted_RN == gold_RN).mean(axis=-1)


def bal_acc(predicted_RN: Codes, gold_RN: Codes) -> Rates:
    """BalAcc: recall of each label, averaged over the labels that occur in ``gold_RN``; invalid counts as wrong."""
    hits_RN = predicted_RN == gold_RN
    items_CR = np.stack([(gold_RN == code).sum(axis=-1) for code in (NO, YES)])
    hits_CR = np.stack([(hits_RN & (gold_RN == code)).sum(axis=-1) for code in (NO, YES)])
    recall_CR = hits_CR / np.maximum(items_CR, 1)
    return recall_CR.sum(axis=0) / (items_CR > 0).sum(axis=0)


def f1_yes(predicted_RN: Codes, gold_RN: Codes) -> Rates:
    """F1 of ``yes``: 2 TP / (predicted + gold), 0 where nobody says yes. An invalid output predicts no ``yes``."""
    said_RN, true_RN = predicted_RN == YES, gold_RN == YES
    total_R = said_RN.sum(axis=-1) + true_RN.sum(axis=-1)
    return 2 * (said_RN & true_RN).sum(axis=-1) / np.maximum(total_R, 1)
