"""Constant answers: the score of the best one, which a useful model must exceed."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from delia_ray.core.fingerprint import to_canonical_json
from delia_ray.evaluation.metrics.format_metrics import (
    NO,
    YES,
    Label,
    LabelCodes,
    bal_acc,
    encode_labels,
    f1_yes,
    label_acc,
    parse_strict_json,
)

_NORMALIZERS: Mapping[str, Callable[[str], str]] = {
    "exact_match": str.strip,
    "contains": str.strip,
    "json_match": lambda target: to_canonical_json(parse_strict_json(target.strip())),
}
"""Metric that compares an answer with its target -> normalization under which two targets are the same answer."""


def score_constant_answers(metrics: Sequence[str], labels: Sequence[Label], targets: Sequence[str]) -> dict[str, float]:
    """Compute, for each metric that asks for one answer of several, the score of the constant answer that is best by it.

    For metrics that compare answers with targets, the candidates are the targets themselves.

    Args:
        metrics: names of the metrics.
        labels: gold labels of the test items, if they have labels.
        targets: targets of all test items.

    Returns:
        Metric -> score of the best constant answer.
    """
    scores = _score_constant_labels(encode_labels(labels)) if labels else {}
    for name in metrics:
        if name in _NORMALIZERS and targets:
            counts = Counter(_NORMALIZERS[name](target) for target in targets)
            # The target that equals most targets is the most frequent one; the one that contains most may be a rarer, longer one.
            hits = _count_contained(counts) if name == "contains" else max(counts.values())
            scores[name] = hits / len(targets)
    return scores


def _count_contained(counts: Mapping[str, int]) -> int:
    """Return the largest number of targets that one target contains."""
    return max(sum(count for target, count in counts.items() if target in answer) for answer in counts)


def _score_constant_labels(gold_N: LabelCodes) -> dict[str, float]:
    constants = [np.full_like(gold_N, code) for code in (NO, YES)]
    return {
        name: max(float(rate(predicted_N, gold_N)) for predicted_N in constants)
        for name, rate in (("label_acc", label_acc), ("bal_acc", bal_acc), ("f1_yes", f1_yes))
    }
