"""How large a true difference must be for a comparison to find it."""

from delia_ray.evaluation.clusters import MIN_CLUSTERS
from delia_ray.evaluation.proportions import Limits

_POWER = 0.8


def detectable(limits: Limits, critical: float, degrees: int | None, units: float | None) -> float | None:
    """The minimum detectable effect: the true difference that comes out significant (two-sided, 5 %) four times out of five.

    (t(0.975) + t(0.8)) / t(0.975) times half of the interval's width. For outcomes that are counted, at least the share of items that
    must change, all in one direction, for six or more of them to do so four times out of five: an exact test of signs needs as many.
    null where there are not as many units.

    Args:
        limits: the difference with its 95 % limits.
        critical: how many standard errors these reach.
        degrees: of freedom of Student's t; null: the normal distribution.
        units: the effective number of items whose outcomes are counted; null: they are measured.
    """
    from scipy import special  # noqa: PLC0415  a tenth of a second, and configs must load at once

    ability = float(special.ndtri(_POWER) if degrees is None else special.stdtrit(degrees, _POWER))
    smooth = (limits.high - limits.low) / 2 * (critical + ability) / critical
    if units is None:
        return smooth
    if units < MIN_CLUSTERS:
        return None
    return max(smooth, float(special.betaincinv(MIN_CLUSTERS, units - MIN_CLUSTERS + 1, _POWER)))
