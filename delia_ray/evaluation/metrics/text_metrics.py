"""Row metrics: each compares one output with its reference and returns a score from 0 to 1."""

import logging
from collections.abc import Callable, Mapping
from typing import Any

from jsonschema import Draft202012Validator
from referencing import Registry
from referencing.exceptions import Unresolvable

from delia_ray.core.errors import UserError
from delia_ray.core.fingerprint import to_canonical_json
from delia_ray.core.text.patterns import MATCH_SECONDS, is_full_match
from delia_ray.core.text.rouge import rouge_l
from delia_ray.evaluation.metrics.format_metrics import parse_strict_json

logger = logging.getLogger(__name__)
_SHOWN_CHARACTERS = 60


def exact_match(output: str, reference: str) -> float:
    """1 if both are the same text after stripping white space, else 0."""
    return float(output.strip() == reference.strip())


def contains(output: str, reference: str) -> float:
    """1 if the stripped reference is a substring of the output, else 0."""
    return float(reference.strip() in output)


def json_valid(output: str, reference: str) -> float:
    """1 if the whole stripped output is valid JSON, else 0."""
    return float(_canonicalize(output) is not None)


def json_match(output: str, reference: str) -> float:
    """1 if both are the same JSON value, else 0: key order, white space and ``1.0`` for ``1`` do not matter.

    Raises:
        UserError: the reference is not JSON, so that no output could match it.
    """
    expected = _canonicalize(reference)
    if expected is None:
        raise UserError(f"task.test: the target {reference[:80]!r} is not JSON; correct it, or choose another task.metric than json_match")
    return float(_canonicalize(output) == expected)


def make_json_schema_metric(schema: Any) -> Callable[[str, str], float]:
    """Make a row metric that is 1 if the whole stripped output is JSON valid under ``schema`` (draft 2020-12), else 0.

    The metric ignores the reference. It raises ``UserError`` if the schema refers to something outside itself: nothing is fetched.
    """
    validator = Draft202012Validator(schema, registry=Registry())

    def score(output: str, reference: str) -> float:
        try:
            return float(validator.is_valid(parse_strict_json(output.strip())))
        except Unresolvable as error:
            raise UserError(f"task.schema: it refers to {error.ref!r}, which is not in it; put that under $defs") from None
        except (ValueError, RecursionError):
            return 0.0

    return score


def make_regex_metric(pattern: str) -> Callable[[str, str], float]:
    """Make a row metric that is 1 if ``pattern`` matches the whole stripped output, else 0; also 0 if a match takes more than a second.

    The metric ignores the reference.
    """

    def score(output: str, reference: str) -> float:
        try:
            return float(is_full_match(pattern, output.strip()))
        except TimeoutError:
            shown = " ".join(output.split())[:_SHOWN_CHARACTERS]
            logger.warning("task.pattern: a match took more than %g s and counts as none (output %r)", MATCH_SECONDS, shown)
            return 0.0

    return score


TEXT_METRICS: Mapping[str, Callable[[str, str], float]] = {
    "exact_match": exact_match,
    "contains": contains,
    "json_valid": json_valid,
    "json_match": json_match,
    "rouge_l": rouge_l,
}
"""Name in ``task.metric`` -> row metric (output, reference). A reference scores 1 against itself if the metric fits the data.

``json_schema`` and ``regex`` depend on the task's schema and pattern: ``make_json_schema_metric`` and ``make_regex_metric``.
"""


def _canonicalize(text: str) -> str | None:
    try:
        return to_canonical_json(parse_strict_json(text.strip()))
    except (ValueError, RecursionError):  # the encoder has its own depth limit
        return None
