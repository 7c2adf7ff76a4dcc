"""Estimation of a metric of one arm with its interval, and of the paired difference of two arms with its interval, p value and power."""

from collections.abc import Sequence
from dataclasses import replace

from delia_ray.evaluation.metrics.definitions import MetricDefinition
from delia_ray.evaluation.statistics.clusters import MIN_CLUSTERS, ClusterCodes, Floats, Grouping, select_grouping
from delia_ray.evaluation.statistics.intervals import Columns, Interval, PairedDifference
from delia_ray.evaluation.statistics.power import minimum_detectable_effect
from delia_ray.evaluation.statistics.proportions import paired_difference_limits
from delia_ray.evaluation.statistics.sums import DifferenceLimits, SumScore, bootstrap_difference, bootstrap_limits

NO_VARIATION = "all items are alike, so their variation cannot be estimated"


def estimate_interval(metric: MetricDefinition, columns: Columns, groupings: Sequence[ClusterCodes], seed: int, resamples: int) -> Interval:
    """Estimate a metric of one arm with its 95 % interval; all None if there are no items.

    Args:
        metric: the metric.
        columns: the arm's columns of the metric's item set.
        groupings: every way in which the items are clustered.
        seed: seed of the bootstrap.
        resamples: number of bootstrap resamples; rates need none.
    """
    if not len(groupings[0]):
        return Interval(None, None, None, 0)
    statistic = metric.choose_statistic(columns)
    influence_N = statistic.influence(columns)
    grouping = select_grouping(influence_N, groupings)
    value = statistic.value(columns)
    interval = Interval(value, None, None, grouping.items, grouping.clusters, grouping.effective_n, grouping.icc)
    if _has_too_few_units(statistic, grouping):
        return replace(interval, note=_explain_too_few(grouping))
    if isinstance(statistic, SumScore):
        limits = bootstrap_limits(statistic, columns, _build_groupings(influence_N, groupings), seed, resamples)
    else:
        limits = statistic.limits(columns, grouping)
    return replace(interval, note=NO_VARIATION) if limits is None else replace(interval, low=limits.low, high=limits.high)


def estimate_difference(
    metric: MetricDefinition, left: Columns, right: Columns, groupings: Sequence[ClusterCodes], seed: int, resamples: int
) -> PairedDifference:
    """Estimate ``left`` minus ``right`` of two arms that answered the same items, with interval, p and MDE; all None without items.

    Of several groupings, the largest design effect, the widest interval and the largest p count.
    """
    if not len(groupings[0]):
        return PairedDifference(None, None, None, None)
    statistic = metric.choose_statistic(left, right)
    influence_N = statistic.influence(left) - statistic.influence(right)
    grouping = select_grouping(influence_N, groupings)
    right_value = statistic.value(right)
    value = statistic.value(left) - right_value
    gain = 100 * value / right_value if right_value > 0 else None
    difference = PairedDifference(
        value, None, None, None, None, gain, clusters=grouping.clusters, effective_n=grouping.effective_n, icc=grouping.icc
    )
    if grouping.has_too_few_clusters:
        return replace(difference, note=_explain_too_few(grouping))
    p = max(statistic.p_value(left, right, codes, seed) for codes in groupings)
    if _has_too_few_units(statistic, grouping):
        return replace(difference, p=p, note=_explain_too_few(grouping))
    if isinstance(statistic, SumScore):
        limits = bootstrap_difference(statistic, left, right, _build_groupings(influence_N, groupings), seed, resamples)
    else:
        limits = DifferenceLimits(paired_difference_limits(statistic, left, right, grouping), None)
    return _add_limits(difference, limits, p, grouping, None if isinstance(statistic, SumScore) else grouping.effective_n)


def _add_limits(
    difference: PairedDifference, limits: DifferenceLimits, p: float, grouping: Grouping, effective_n: float | None
) -> PairedDifference:
    if limits.difference is None:
        return replace(difference, p=p, note=NO_VARIATION)
    degrees_of_freedom = None if grouping.is_singleton else grouping.clusters - 1
    gain_low, gain_high = limits.gain if limits.gain and difference.gain_percent is not None else (None, None)
    mde = None
    if grouping.clusters >= MIN_CLUSTERS:
        mde = minimum_detectable_effect(limits.difference, grouping.critical_value, degrees_of_freedom, effective_n)
    return replace(
        difference,
        low=limits.difference.low,
        high=limits.difference.high,
        p=p,
        mde=mde,
        gain_low=gain_low,
        gain_high=gain_high,
    )


def _build_groupings(influence_N: Floats, groupings: Sequence[ClusterCodes]) -> list[Grouping]:
    return [select_grouping(influence_N, [codes]) for codes in groupings]


def _has_too_few_units(statistic: object, grouping: Grouping) -> bool:
    """Whether there is no valid interval: Wilson's holds for a few single items, the bootstrap does not for a few units of any kind."""
    return grouping.has_too_few_clusters or (isinstance(statistic, SumScore) and grouping.clusters < MIN_CLUSTERS)


def _explain_too_few(grouping: Grouping) -> str:
    if grouping.is_singleton:
        return f"{grouping.items} items are too few for an interval of this metric (at least {MIN_CLUSTERS})"
    return f"{grouping.items} items share {grouping.clusters} wordings or documents, too few for an interval (at least {MIN_CLUSTERS})"
