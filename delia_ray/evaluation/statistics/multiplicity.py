"""Correction of p values for multiple comparisons."""

from collections.abc import Mapping
from dataclasses import replace

from delia_ray.evaluation.statistics.intervals import PairedDifference


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """p values adjusted for their number (Holm 1979, step-down).

    The k-th smallest of m is multiplied by m - k + 1, is at least as large as the one before it, and at most 1. Rejecting where the
    result is at most alpha keeps the probability of any false rejection at alpha, however the tests depend on each other.
    """
    adjusted: dict[str, float] = {}
    largest = 0.0
    for rank, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        largest = min(1.0, max(largest, (len(p_values) - rank) * p_values[name]))
        adjusted[name] = largest
    return {name: adjusted[name] for name in p_values}


def apply_holm_correction(differences: Mapping[str, Mapping[str, PairedDifference]]) -> dict[str, dict[str, PairedDifference]]:
    """Fill in ``p_holm`` of the differences of all arms from the same one, for each metric separately.

    Args:
        differences: arm -> metric -> difference.
    """
    corrected = {arm: dict(by_metric) for arm, by_metric in differences.items()}
    for metric in {metric: None for by_metric in differences.values() for metric in by_metric}:
        p_values = {arm: by_metric[metric].p for arm, by_metric in differences.items() if metric in by_metric}
        for arm, p_holm in holm({arm: p for arm, p in p_values.items() if p is not None}).items():
            corrected[arm][metric] = replace(corrected[arm][metric], p_holm=p_holm)
    return corrected
