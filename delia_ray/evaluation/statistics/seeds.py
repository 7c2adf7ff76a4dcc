"""Intervals and tests over training seeds: Student's t for the mean over seeds, and the paired t test for two arms.

An interval over items is for other prompts and the given models; an interval over seeds is for other training runs. With three to ten
seeds the normal distribution would give far too narrow an interval. All seeds are tested on the same items, however, so averaging over
seeds does not reduce the sampling error of the items: an interval over seeds is never narrower than the mean interval over items, and a
p value never smaller than the median one over items. Seeds with exactly equal values have no interval of their own.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from delia_ray.evaluation.statistics.intervals import Interval, PairedDifference

ONE_SEED = "one seed, so the variation over seeds cannot be estimated"
SEEDS_AGREE = "all seeds have the same value, and there is no interval over items"
_POWER = 0.8


class _SeedError(NamedTuple):
    """The sampling error of a mean over seeds."""

    half_width: float
    """Half of the width of the t interval."""
    mde: float
    """Minimum detectable effect over seeds alone."""


def seed_interval(values: Sequence[float], item_intervals: Sequence[Interval] = (), level: float = 0.95) -> Interval:
    """Mean over seeds with its t interval, mean +- t(n - 1) s / sqrt(n), or the mean interval over items if that is wider.

    ``n`` of the result is the number of seeds. A single seed has a mean and no interval; no seed has neither.

    Args:
        values: one value for each seed.
        item_intervals: each seed's interval over items, in the same order; empty if unknown.
        level: nominal coverage of the interval, between 0 and 1.
    """
    if not values:
        return Interval(None, None, None, 0)
    mean, error = float(np.mean(values)), _seed_error(values, level)
    if error is None:
        return Interval(mean, None, None, 1, note=ONE_SEED)
    below, above = _max_half_widths(error.half_width, [(each.value, each.low, each.high) for each in item_intervals])
    if below == above == 0:
        return Interval(mean, None, None, len(values), note=SEEDS_AGREE)
    return Interval(mean, mean - below, mean + above, len(values))


def paired_seed_difference(
    left: Sequence[float], right: Sequence[float], item_differences: Sequence[PairedDifference] = (), level: float = 0.95
) -> PairedDifference:
    """Mean of ``left - right`` over seeds, with its t interval and the two-sided p of the paired t test.

    The mean interval over items replaces the t interval if it is wider, and the median p over items the t test's if it is larger.
    One seed has neither interval nor p.

    Args:
        left: one value for each seed.
        right: the other arm's values for the same seeds in the same order.
        item_differences: each seed's difference over items, in the same order; empty if unknown.
        level: nominal coverage of the interval, between 0 and 1.
    """
    assert len(left) == len(right), f"the arms do not have the same seeds: {len(left)} and {len(right)}"
    if not left:
        return PairedDifference(None, None, None, None)
    differences = [a - b for a, b in zip(left, right, strict=True)]
    mean, error = float(np.mean(differences)), _seed_error(differences, level)
    margin = next((each.margin for each in item_differences), None)
    if error is None:
        return PairedDifference(mean, None, None, None, margin=margin, note=ONE_SEED)
    item_p_values = [each.p for each in item_differences if each.p is not None]
    p_values = [*_paired_t_test(differences, [*left, *right]), *([float(np.median(item_p_values))] if item_p_values else [])]
    p = max(p_values) if p_values else None
    below, above = _max_half_widths(error.half_width, [(each.difference, each.low, each.high) for each in item_differences])
    if below == above == 0:
        return PairedDifference(mean, None, None, p, margin=margin, note=SEEDS_AGREE)
    item_mdes = [each.mde for each in item_differences if each.mde is not None]
    mde = max(error.mde, float(np.mean(item_mdes)) if item_mdes else 0.0)
    return PairedDifference(mean, mean - below, mean + above, p, mde=mde, margin=margin)


def _seed_error(values: Sequence[float], level: float) -> _SeedError | None:
    """Sampling error of the mean of ``values``; None for fewer than two."""
    if len(values) < 2:
        return None
    from scipy import special  # noqa: PLC0415  a tenth of a second, and configs must load at once

    degrees_of_freedom = len(values) - 1
    standard_error = float(np.std(values, ddof=1) / np.sqrt(len(values)))
    standard_error = 0.0 if standard_error <= 1e-12 * float(np.abs(values).max()) else standard_error
    critical_value = float(special.stdtrit(degrees_of_freedom, (1 + level) / 2))
    power_quantile = float(special.stdtrit(degrees_of_freedom, _POWER))
    return _SeedError(critical_value * standard_error, (critical_value + power_quantile) * standard_error)


def _max_half_widths(half_width: float, items: Sequence[tuple[float | None, float | None, float | None]]) -> tuple[float, float]:
    """Distances of the lower and the upper limit from the mean: those over seeds, or the mean ones over items if these are larger."""
    known = [(value - low, high - value) for value, low, high in items if value is not None and low is not None and high is not None]
    if not known:
        return half_width, half_width
    below, above = np.mean(known, axis=0)
    return max(half_width, float(below)), max(half_width, float(above))


def _paired_t_test(differences: Sequence[float], values: Sequence[float]) -> list[float]:
    """p of the paired t test, as a list; empty if all seeds differ by the same amount, for which the test is not defined."""
    if np.ptp(differences) <= 1e-12 * np.abs(values).max():
        return []
    from scipy import stats  # noqa: PLC0415  half a second, for runs with several seeds only

    result: Any = stats.ttest_1samp(differences, 0.0)
    return [float(result.pvalue)]
