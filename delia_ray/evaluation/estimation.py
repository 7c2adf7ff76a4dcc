"""A metric of one arm with its interval, and the difference of two arms with its interval, p and what it could have found."""

from collections.abc import Sequence
from dataclasses import replace

from delia_ray.evaluation.bootstrap import Columns, Difference, Interval
from delia_ray.evaluation.clusters import MIN_CLUSTERS, Codes, Floats, Grouping, group
from delia_ray.evaluation.measures import Measure
from delia_ray.evaluation.power import detectable
from delia_ray.evaluation.proportions import compared
from delia_ray.evaluation.sums import Drawn, SumScore, difference, limits

ALL_ALIKE = "all items are alike, which says nothing of how others would vary"


def estimate(measure: Measure, columns: Columns, groupings: Sequence[Codes], seed: int, resamples: int) -> Interval:
    """A metric of one arm; all None where nothing was asked."""
    if not len(groupings[0]):
        return Interval(None, None, None, 0)
    quantity = measure.of(columns)
    grouping = group(quantity.influence(columns), groupings)
    value = quantity.value(columns)
    found = Interval(value, None, None, grouping.items, grouping.clusters, grouping.effective_n, grouping.icc)
    if _has_too_few(quantity, grouping):
        return replace(found, note=_too_few(grouping))
    if isinstance(quantity, SumScore):
        between = limits(quantity, columns, _all(quantity.influence(columns), groupings), seed, resamples)
    else:
        between = quantity.limits(columns, grouping)
    return replace(found, note=ALL_ALIKE) if between is None else replace(found, low=between.low, high=between.high)


def compare(measure: Measure, left: Columns, right: Columns, groupings: Sequence[Codes], seed: int, resamples: int) -> Difference:
    """``left`` minus ``right`` of two arms that answered the same items; all None where nothing was asked."""
    if not len(groupings[0]):
        return Difference(None, None, None, None)
    quantity = measure.of(left, right)
    moved_N = quantity.influence(left) - quantity.influence(right)
    grouping = group(moved_N, groupings)
    theirs = quantity.value(right)
    apart = quantity.value(left) - theirs
    gain = 100 * apart / theirs if theirs > 0 else None
    found = Difference(apart, None, None, None, None, gain, clusters=grouping.clusters, effective_n=grouping.effective_n, icc=grouping.icc)
    if grouping.has_too_few:
        return replace(found, note=_too_few(grouping))
    p = max(quantity.p(left, right, codes, seed) for codes in groupings)
    if _has_too_few(quantity, grouping):
        return replace(found, p=p, note=_too_few(grouping))
    if isinstance(quantity, SumScore):
        drawn = difference(quantity, left, right, _all(moved_N, groupings), seed, resamples)
    else:
        drawn = Drawn(compared(quantity, left, right, grouping), None)
    return _with_limits(found, drawn, p, grouping, None if isinstance(quantity, SumScore) else grouping.effective_n)


def _with_limits(found: Difference, drawn: Drawn, p: float, grouping: Grouping, units: float | None) -> Difference:
    if drawn.limits is None:
        return replace(found, p=p, note=ALL_ALIKE)
    degrees = None if grouping.is_single else grouping.clusters - 1
    gain_low, gain_high = drawn.gain if drawn.gain and found.gain_percent is not None else (None, None)
    return replace(
        found,
        low=drawn.limits.low,
        high=drawn.limits.high,
        p=p,
        mde=None if grouping.clusters < MIN_CLUSTERS else detectable(drawn.limits, grouping.critical, degrees, units),
        gain_low=gain_low,
        gain_high=gain_high,
    )


def _all(influence_N: Floats, groupings: Sequence[Codes]) -> list[Grouping]:
    return [group(influence_N, [codes]) for codes in groupings]


def _has_too_few(quantity: object, grouping: Grouping) -> bool:
    """Rates of a few single items have limits that hold; what is drawn again and again from a few of anything has none."""
    return grouping.has_too_few or (isinstance(quantity, SumScore) and grouping.clusters < MIN_CLUSTERS)


def _too_few(grouping: Grouping) -> str:
    if grouping.is_single:
        return f"{grouping.items} items are too few for an interval of this metric (at least {MIN_CLUSTERS})"
    return f"{grouping.items} items share {grouping.clusters} wordings or documents, too few for an interval (at least {MIN_CLUSTERS})"
