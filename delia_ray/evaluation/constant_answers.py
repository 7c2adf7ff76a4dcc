"""What the best constant answer scores: a metric that it wins is no win."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from delia_ray.evaluation.format_metrics import NO, YES, Codes, Label, bal_acc, f1_yes, label_acc, label_codes, strict_json
from delia_ray.fingerprint import canonical_json

_BY_TARGET: Mapping[str, Callable[[str], str]] = {
    "exact_match": str.strip,
    "contains": str.strip,
    "json_match": lambda target: canonical_json(strict_json(target.strip())),
}
"""Metric that compares an answer with its target -> what makes two targets the same answer."""


def best_constants(metric: Sequence[str], labels: Sequence[Label], targets: Sequence[str]) -> dict[str, float]:
    """Metric -> the score of always giving the same answer, whichever is best by it; for the metrics that ask for one answer of several.

    Where answers are compared with targets, the constants that are tried are the targets themselves.

    Args:
        metric: the metrics that were taken.
        labels: of the test items, where they have labels.
        targets: of the test items, as many as there are.
    """
    found = _of_labels(label_codes(labels)) if labels else {}
    for name in metric:
        if name in _BY_TARGET and targets:
            counts = Counter(_BY_TARGET[name](target) for target in targets)
            # What equals most targets is the commonest; what contains most may be a rarer one that is longer.
            hits = _contained(counts) if name == "contains" else max(counts.values())
            found[name] = hits / len(targets)
    return found


def _contained(counts: Mapping[str, int]) -> int:
    """The most targets that one of them contains."""
    return max(sum(count for target, count in counts.items() if target in answer) for answer in counts)


def _of_labels(gold_N: Codes) -> dict[str, float]:
    always = [np.full_like(gold_N, code) for code in (NO, YES)]
    return {
        name: max(float(rate(answers_N, gold_N)) for answers_N in always)
        for name, rate in (("label_acc", label_acc), ("bal_acc", bal_acc), ("f1_yes", f1_yes))
    }
