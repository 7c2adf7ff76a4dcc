"""Training seeds as the unit: how sure a mean over seeds is, by Student's t.

The bootstrap over prompts says how a score would vary with other prompts, for the models at hand. These say how it would vary with
other runs of the training; with three to ten seeds the normal distribution would be far too sure of itself.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from delia_ray.evaluation.bootstrap import Difference, Interval


def seed_interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """Mean of one value a seed, with its t interval: mean +- t(n - 1) s / sqrt(n).

    ``n`` of the result counts seeds. A single seed has a mean and no interval; no seed has neither. Seeds that agree to the last
    digit have an interval of no width.
    """
    if not values:
        return Interval(None, None, None, 0)
    mean = float(np.mean(values))
    half = _half_width(values, level)
    return Interval(mean, *((None, None) if half is None else (mean - half, mean + half)), len(values))


def paired_seed_difference(left: Sequence[float], right: Sequence[float], level: float = 0.95) -> Difference:
    """Mean of ``left - right`` over the seeds, with its t interval and the two-sided p of the paired t test.

    Args:
        left: one value a seed.
        right: those of the other arm, of the same seeds in the same order.
        level: the interval's nominal coverage, between 0 and 1.

    One seed has neither interval nor p. Where every seed differs by the same amount the test is not defined: p is 1 if that amount
    is 0, and None if it is not.
    """
    assert len(left) == len(right), f"the arms do not have the same seeds: {len(left)} and {len(right)}"
    from scipy import stats  # noqa: PLC0415  half a second, for runs with several seeds only

    differences = [a - b for a, b in zip(left, right, strict=True)]
    found = seed_interval(differences, level)
    if found.value is None or found.low is None:
        return Difference(found.value, None, None, None)
    if np.ptp(differences) <= 1e-12 * np.abs([*left, *right]).max():
        return Difference(found.value, found.low, found.high, 1.0 if found.value == 0 else None)
    tested: Any = stats.ttest_1samp(differences, 0.0)
    return Difference(found.value, found.low, found.high, float(tested.pvalue))


def _half_width(values: Sequence[float], level: float) -> float | None:
    if len(values) < 2:
        return None
    from scipy import stats  # noqa: PLC0415

    return float(stats.t.ppf((1 + level) / 2, len(values) - 1) * stats.sem(values))
