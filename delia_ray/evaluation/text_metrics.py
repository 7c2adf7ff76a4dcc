"""Row scores for the user's own task: each compares one output with the row's target and gives 0 to 1."""

import logging
from collections.abc import Callable, Mapping
from typing import Any

from jsonschema import Draft202012Validator
from referencing import Registry
from referencing.exceptions import Unresolvable

from delia_ray.errors import UserError
from delia_ray.evaluation.format_metrics import parse_verdict, strict_json
from delia_ray.fingerprint import canonical_json
from delia_ray.patterns import MATCH_SECONDS, matches_whole
from delia_ray.rouge import rouge_l

logger = logging.getLogger(__name__)
_SHOWN_CHARACTERS = 60


def exact_match(output: str, reference: str) -> float:
    """1 if they are the same text, apart from white space around them."""
    return float(output.strip() == reference.strip())


def contains(output: str, reference: str) -> float:
    """1 if the trimmed reference occurs in the output, letter for letter."""
    return float(reference.strip() in output)


def json_valid(output: str, reference: str) -> float:
    """1 if the whole trimmed output is JSON, whatever it says."""
    return float(_canonical(output) is not None)


def json_match(output: str, reference: str) -> float:
    """1 if both are the same JSON value: key order, white space and ``1.0`` for ``1`` do not matter.

    Raises:
        UserError: the reference is not JSON, so that no output could match it.
    """
    wanted = _canonical(reference)
    if wanted is None:
        raise UserError(f"task.test: the target {reference[:80]!r} is not JSON; correct it, or choose another task.metric than json_match")
    return float(_canonical(output) == wanted)


def in_format(output: str, reference: str) -> float:
    """1 if the whole trimmed output is in the built-in task's format, whatever it decides."""
    return float(parse_verdict(output, "json") is not None)


def json_schema(schema: Any) -> Callable[[str, str], float]:
    """1 if the whole trimmed output is JSON that ``schema`` (draft 2020-12) describes, whatever the reference says.

    The score raises ``UserError`` where the schema refers to something outside itself: nothing is fetched.
    """
    validator = Draft202012Validator(schema, registry=Registry())

    def score(output: str, reference: str) -> float:
        try:
            return float(validator.is_valid(strict_json(output.strip())))
        except Unresolvable as error:
            raise UserError(f"task.schema: it refers to {error.ref!r}, which is not in it; put that under $defs") from None
        except (ValueError, RecursionError):
            return 0.0

    return score


def regex(pattern: str) -> Callable[[str, str], float]:
    """1 if ``pattern`` matches the whole trimmed output, whatever the reference says; 0 where that takes longer than a second."""

    def score(output: str, reference: str) -> float:
        try:
            return float(matches_whole(pattern, output.strip()))
        except TimeoutError:
            shown = " ".join(output.split())[:_SHOWN_CHARACTERS]
            logger.warning("task.pattern: a match took more than %g s and counts as none (output %r)", MATCH_SECONDS, shown)
            return 0.0

    return score


METRICS: Mapping[str, Callable[[str, str], float]] = {
    "exact_match": exact_match,
    "contains": contains,
    "json_valid": json_valid,
    "json_match": json_match,
    "rouge_l": rouge_l,
    "format": in_format,
}
"""Name in ``task.metric`` -> row score (output, reference). A reference scores 1 against itself if the metric fits the data.

``json_schema`` and ``regex`` are made from what else the task says.
"""


def _canonical(text: str) -> str | None:
    try:
        return canonical_json(strict_json(text.strip()))
    except (ValueError, RecursionError):  # the encoder has a depth limit of its own
        return None
