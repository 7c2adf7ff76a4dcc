"""Minimum detectable effect of a comparison."""

from delia_ray.evaluation.statistics.clusters import MIN_CLUSTERS
from delia_ray.evaluation.statistics.proportions import Limits

_POWER = 0.8


def minimum_detectable_effect(
    limits: Limits, critical_value: float, degrees_of_freedom: int | None, effective_n: float | None
) -> float | None:
    """Minimum detectable effect: the true difference that is significant (two-sided, 5 %) with a power of 80 %.

    (t(0.975) + t(0.8)) / t(0.975) times half of the interval's width. For binary outcomes, at least the proportion of items that
    must change, all in one direction, for six or more of them to do so with a probability of 80 %: an exact sign test needs as many.
    None if there are fewer items than that.

    Args:
        limits: the difference with its 95 % confidence limits.
        critical_value: standard errors on either side of the difference.
        degrees_of_freedom: of Student's t; None for the normal distribution.
        effective_n: the effective number of items with binary outcomes; None for outcomes that are measured.
    """
    from scipy import special  # noqa: PLC0415  a tenth of a second, and configs must load at once

    power_quantile = float(special.ndtri(_POWER) if degrees_of_freedom is None else special.stdtrit(degrees_of_freedom, _POWER))
    from_width = (limits.high - limits.low) / 2 * (critical_value + power_quantile) / critical_value
    if effective_n is None:
        return from_width
    if effective_n < MIN_CLUSTERS:
        return None
    return max(from_width, float(special.betaincinv(MIN_CLUSTERS, effective_n - MIN_CLUSTERS + 1, _POWER)))
