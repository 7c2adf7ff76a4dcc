"""Training seeds as the unit: how sure a mean over seeds is, by Student's t.

The intervals over items say how a score would vary with other prompts, for the models at hand. These say how it would vary with other
runs of the training; with three to ten seeds the normal distribution would be far too sure of itself. Every seed is tested on the same
items, though, so averaging over seeds takes away nothing of what their choice adds: an interval over seeds is never narrower than the
mean interval over items, and a p never smaller than the median one. Seeds that agree to the last digit say nothing of their own.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from delia_ray.evaluation.bootstrap import Difference, Interval

ONE_SEED = "one seed, which says nothing of others"
SEEDS_AGREE = "the seeds agree to the last digit, and nothing is known of the items"
_POWER = 0.8


class _Spread(NamedTuple):
    """Of values by seed."""

    half_width: float
    detectable: float
    """The minimum detectable effect, by seeds alone."""


def seed_interval(values: Sequence[float], items: Sequence[Interval] = (), level: float = 0.95) -> Interval:
    """Mean of one value a seed, with its t interval: mean +- t(n - 1) s / sqrt(n), or the items' where that is wider.

    ``n`` of the result counts seeds. A single seed has a mean and no interval; no seed has neither.

    Args:
        values: one a seed.
        items: each seed's interval over items, in the same order; empty where nothing is known of them.
        level: the interval's nominal coverage, between 0 and 1.
    """
    if not values:
        return Interval(None, None, None, 0)
    mean, spread = float(np.mean(values)), _spread(values, level)
    if spread is None:
        return Interval(mean, None, None, 1, note=ONE_SEED)
    below, above = _wider(spread.half_width, [(each.value, each.low, each.high) for each in items])
    if below == above == 0:
        return Interval(mean, None, None, len(values), note=SEEDS_AGREE)
    return Interval(mean, mean - below, mean + above, len(values))


def paired_seed_difference(
    left: Sequence[float], right: Sequence[float], items: Sequence[Difference] = (), level: float = 0.95
) -> Difference:
    """Mean of ``left - right`` over the seeds, with its t interval and the two-sided p of the paired t test, or the items' where they
    are wider and larger.

    Args:
        left: one value a seed.
        right: those of the other arm, of the same seeds in the same order.
        items: each seed's difference over items, in the same order; empty where nothing is known of them.
        level: the interval's nominal coverage, between 0 and 1.

    One seed has neither interval nor p.
    """
    assert len(left) == len(right), f"the arms do not have the same seeds: {len(left)} and {len(right)}"
    if not left:
        return Difference(None, None, None, None)
    differences = [a - b for a, b in zip(left, right, strict=True)]
    mean, spread = float(np.mean(differences)), _spread(differences, level)
    margin = next((each.margin for each in items), None)
    if spread is None:
        return Difference(mean, None, None, None, margin=margin, note=ONE_SEED)
    p_values = [each.p for each in items if each.p is not None]
    either = [*_t_test(differences, [*left, *right]), *([float(np.median(p_values))] if p_values else [])]
    p = max(either) if either else None
    below, above = _wider(spread.half_width, [(each.difference, each.low, each.high) for each in items])
    if below == above == 0:
        return Difference(mean, None, None, p, margin=margin, note=SEEDS_AGREE)
    found = [each.mde for each in items if each.mde is not None]
    mde = max(spread.detectable, float(np.mean(found)) if found else 0.0)
    return Difference(mean, mean - below, mean + above, p, mde=mde, margin=margin)


def _spread(values: Sequence[float], level: float) -> _Spread | None:
    if len(values) < 2:
        return None
    from scipy import special  # noqa: PLC0415  a tenth of a second, and configs must load at once

    degrees = len(values) - 1
    error = float(np.std(values, ddof=1) / np.sqrt(len(values)))
    error = 0.0 if error <= 1e-12 * float(np.abs(values).max()) else error
    critical = float(special.stdtrit(degrees, (1 + level) / 2))
    return _Spread(critical * error, (critical + float(special.stdtrit(degrees, _POWER))) * error)


def _wider(half_width: float, items: Sequence[tuple[float | None, float | None, float | None]]) -> tuple[float, float]:
    """How far the interval reaches below and above."""
    known = [(value - low, high - value) for value, low, high in items if value is not None and low is not None and high is not None]
    if not known:
        return half_width, half_width
    below, above = np.mean(known, axis=0)
    return max(half_width, float(below)), max(half_width, float(above))


def _t_test(differences: Sequence[float], values: Sequence[float]) -> list[float]:
    """Its p; empty where every seed differs by the same amount, of which the test is not defined."""
    if np.ptp(differences) <= 1e-12 * np.abs(values).max():
        return []
    from scipy import stats  # noqa: PLC0415  half a second, for runs with several seeds only

    tested: Any = stats.ttest_1samp(differences, 0.0)
    return [float(tested.pvalue)]
