"""What several looks at one question do to its p values."""

from collections.abc import Mapping
from dataclasses import replace

from delia_ray.evaluation.bootstrap import Difference


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """Each p value adjusted for all being looked at (Holm 1979, step-down).

    The k-th smallest of m is multiplied by m - k + 1, is at least as large as the one before it, and at most 1. Rejecting where the
    result is at most alpha keeps the chance of any false rejection at alpha, however the tests depend on each other.
    """
    adjusted: dict[str, float] = {}
    largest = 0.0
    for rank, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        largest = min(1.0, max(largest, (len(p_values) - rank) * p_values[name]))
        adjusted[name] = largest
    return {name: adjusted[name] for name in p_values}


def with_holm(compared: Mapping[str, Mapping[str, Difference]]) -> dict[str, dict[str, Difference]]:
    """The differences of all arms from the same one with ``p_holm`` filled in, for each metric by itself.

    Args:
        compared: arm -> metric -> difference.
    """
    found = {arm: dict(differences) for arm, differences in compared.items()}
    for metric in {metric: None for differences in compared.values() for metric in differences}:
        p_values = {arm: each[metric].p for arm, each in compared.items() if metric in each}
        for arm, p_holm in holm({arm: p for arm, p in p_values.items() if p is not None}).items():
            found[arm][metric] = replace(found[arm][metric], p_holm=p_holm)
    return found
