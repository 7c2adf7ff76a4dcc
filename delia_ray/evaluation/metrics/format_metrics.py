"""Metrics of formatted text generation: parse the outputs, and compute rates over them (docs/method.md, T2).

Shape legend: N items, R resamples. Every rate reduces the last axis, so it takes ``[N]`` as well as a bootstrap's ``[R, N]``.
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
LabelCodes: TypeAlias = NDArray[np.int8]
Rates: TypeAlias = NDArray[np.float64]

NO, YES, INVALID = 0, 1, -1
_LABEL_CODES: dict[str, int] = {"no": NO, "yes": YES}

_MAX_LITERAL_CHARS = 65_536  # the Python parser's time and memory grow faster than its input; no real answer is this long
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class FormattedOutput:
    """The parsed content of an output that is in the format."""

    thought: str
    hallucination: Label


def parse_formatted_output(text: str, mode: Mode) -> FormattedOutput | None:
    """Parse the whole stripped ``text`` as the format of the built-in task; None if it is not in the format.

    The format is one object with exactly the keys ``thought`` (a string that is not blank) and ``hallucination``
    (``"yes"`` or ``"no"``), each once. Never raises, whatever a model wrote.

    Args:
        text: a whole generation.
        mode: ``json``, or ``python`` for a Python literal, which is how the paper's authors wrote their targets.
    """
    match mode:
        case "json":
            value = _parse_json_or_none(text.strip())
        case "python":
            value = _parse_literal_or_none(text.strip())
        case _:
            assert_never(mode)
    match value:
        case {"thought": str(thought), "hallucination": "yes" | "no" as label, **others} if not others and thought.strip():
            # A lone surrogate parses, but is not valid Unicode text: it could not be stored or shown.
            return None if _LONE_SURROGATE.search(thought) else FormattedOutput(thought, label)
        case _:
            return None


def parse_strict_json(text: str) -> Any:
    """Parse ``text`` as JSON, and refuse everything on which parsers may differ (RFC 8259).

    Equal numbers have the same value and type: ``1.0`` and ``1e0`` are the int 1.

    Raises:
        ValueError: it is not JSON, or repeats a key, holds a number that is not finite, or nests too deep to read.
    """
    try:
        return json.loads(text, object_pairs_hook=_reject_duplicate_keys, parse_constant=_reject_constant, parse_float=_parse_finite_number)
    except RecursionError:
        raise ValueError("JSON nested too deep") from None


def _reject_duplicate_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) < len(pairs):
        raise ValueError("JSON object with a repeated key")
    return unique


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _parse_finite_number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("JSON number out of range")
    return int(number) if number.is_integer() else number


def _parse_json_or_none(text: str) -> Any:
    try:
        return parse_strict_json(text)
    except ValueError:
        return None


def _parse_literal_or_none(text: str) -> Any:
    if len(text) > _MAX_LITERAL_CHARS:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an unknown escape such as \d warns, and with warnings as errors would fail
            node = ast.parse(text, mode="eval").body
        # Exactly two entries; the caller requires two different keys. So no key is repeated, which the resulting dict would hide.
        return ast.literal_eval(node) if isinstance(node, ast.Dict) and len(node.keys) == 2 else None
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):  # TypeError: a list as a key
        return None


def encode_predictions(outputs: Sequence[FormattedOutput | None]) -> LabelCodes:
    """Return the ``[N]`` codes of the predicted labels; an output that is not in the format is ``INVALID``."""
    return np.array([INVALID if output is None else _LABEL_CODES[output.hallucination] for output in outputs], dtype=np.int8)


def encode_labels(labels: Sequence[Label]) -> LabelCodes:
    """Return the ``[N]`` codes of the gold labels."""
    return np.array([_LABEL_CODES[label] for label in labels], dtype=np.int8)


def format_acc(predicted_RN: LabelCodes) -> Rates:
    """FormatAcc: the proportion that is in the format. NoToken, Spill, FalseTrigger and PlugPlay are the same on their own prompts."""
    return (predicted_RN != INVALID).mean(axis=-1)


def label_acc(predicted_RN: LabelCodes, gold_RN: LabelCodes) -> Rates:
    """LabelAcc: the proportion that is in the format and has the right label."""
    return (predicted_RN == gold_RN).mean(axis=-1)


def bal_acc(predicted_RN: LabelCodes, gold_RN: LabelCodes) -> Rates:
    """BalAcc, balanced accuracy: recall of each label, averaged over the labels that occur in ``gold_RN``; invalid counts as wrong."""
    hits_RN = predicted_RN == gold_RN
    items_CR = np.stack([(gold_RN == code).sum(axis=-1) for code in (NO, YES)])
    hits_CR = np.stack([(hits_RN & (gold_RN == code)).sum(axis=-1) for code in (NO, YES)])
    recall_CR = hits_CR / np.maximum(items_CR, 1)
    return recall_CR.sum(axis=0) / (items_CR > 0).sum(axis=0)


def f1_yes(predicted_RN: LabelCodes, gold_RN: LabelCodes) -> Rates:
    """F1 of ``yes``: 2 TP / (predicted + gold), 0 if neither occurs. An invalid output does not predict ``yes``."""
    predicted_yes_RN, gold_yes_RN = predicted_RN == YES, gold_RN == YES
    total_R = predicted_yes_RN.sum(axis=-1) + gold_yes_RN.sum(axis=-1)
    return 2 * (predicted_yes_RN & gold_yes_RN).sum(axis=-1) / np.maximum(total_R, 1)
