"""Clusters: intraclass correlation, design effect and effective sample size."""

import numpy as np
import pytest
from scipy import stats

from delia_ray.evaluation.statistics.clusters import assign_clusters, assign_singletons, intraclass_correlation, select_grouping


def test_items_of_one_name_are_a_cluster_and_nameless_ones_stand_alone() -> None:
    assert assign_clusters(["a", "b", "a", None, None, "b"]).tolist() == [0, 1, 0, 2, 3, 1]


def test_the_intraclass_correlation_is_that_of_the_analysis_of_variance() -> None:
    # Shrout and Fleiss 1979, Psychological Bulletin 86, 420: six targets, four judges, ICC(1,1) = 0.17.
    ratings = np.array([[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], dtype=float)
    icc = intraclass_correlation(ratings.ravel(), np.repeat(np.arange(6), 4))
    assert icc == pytest.approx(0.1657, abs=5e-5)


def test_the_correlation_that_made_the_items_is_found_again_with_unequal_clusters() -> None:
    rng = np.random.default_rng(0)
    sizes = rng.integers(1, 9, 4000)
    codes = np.repeat(np.arange(4000), sizes)
    values = np.sqrt(0.3) * rng.normal(size=4000)[codes] + np.sqrt(0.7) * rng.normal(size=len(codes))
    assert intraclass_correlation(values, codes) == pytest.approx(0.3, abs=0.02)


def test_nothing_is_estimated_where_nothing_is_shared_or_nothing_varies() -> None:
    assert intraclass_correlation(np.arange(5, dtype=np.float64), assign_singletons(5)) is None
    assert intraclass_correlation(np.ones(6), np.array([0, 0, 1, 1, 2, 2])) is None


def test_items_that_are_all_alike_count_as_many_times_as_there_are_clusters() -> None:
    grouping = select_grouping(np.zeros(80), [np.repeat(np.arange(40), 2)])
    assert (grouping.clusters, grouping.icc, grouping.effective_n) == (40, None, 40)


def test_of_two_groupings_the_worse_one_counts() -> None:
    values = np.repeat([1.0, -1.0], 20)
    by_half, by_pair = np.arange(40) // 5, np.arange(40) % 20
    assert select_grouping(values, [by_pair, by_half]).clusters == select_grouping(values, [by_half, by_pair]).clusters == 8


def test_too_few_clusters_outweigh_everything_else() -> None:
    grouping = select_grouping(np.arange(40, dtype=np.float64), [np.arange(40) % 20, np.arange(40) % 5])
    assert grouping.clusters == 5 and grouping.has_too_few_clusters
    assert not select_grouping(np.arange(4, dtype=np.float64), [assign_singletons(4)]).has_too_few_clusters, "items alone are no clusters"


def test_an_interval_reaches_students_t_of_the_clusters_and_1_96_of_single_items() -> None:
    assert select_grouping(np.arange(40, dtype=np.float64), [np.arange(40) % 8]).critical_value == pytest.approx(stats.t.ppf(0.975, 7))
    assert select_grouping(np.arange(40, dtype=np.float64), [assign_singletons(40)]).critical_value == pytest.approx(stats.norm.ppf(0.975))
