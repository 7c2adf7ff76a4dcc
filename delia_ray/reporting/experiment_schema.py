"""Schema of ``experiment.json``: scores of all models, means over seeds, differences, fits and gains that an experiment's page shows."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

from pydantic import Field

from delia_ray.core.artifacts import Provenance
from delia_ray.core.records import Record
from delia_ray.evaluation.statistics.grid import (
    GridPoint,
    ItemDifferences,
    ModelScores,
    SaturationCurve,
    fit_saturation,
    list_grid_points,
    mean_over_seeds,
    paired_differences,
    relative_gains,
)
from delia_ray.evaluation.statistics.intervals import Interval, PairedDifference
from delia_ray.reporting.schema import MetricDifference, PromptAnswers
from delia_ray.reporting.wording.conclusions import decide_verdict


class ExperimentReport(Record):
    """Contents of ``experiment.json``."""

    name: str
    rival: str
    """The grid point (arm, rho and N) that all others are compared with."""
    rows: list[ModelScores]
    """Scores of each model."""
    means: dict[str, dict[str, Interval]]
    """Grid point -> metric -> mean over seeds with its interval, from Student's t over seeds or from the items, whichever is wider; ``n``
    counts seeds. For a model that was not trained: its value with the interval from the items; ``n`` counts items."""
    paired: dict[str, dict[str, MetricDifference]]
    """Grid point -> metric -> grid point minus rival, paired by seed."""
    constants: dict[str, float] = Field(default={})
    """Metric -> score of the best constant answer."""
    fits: dict[str, dict[str, SaturationCurve]]
    """Arm -> metric -> saturating curve of the score over rho, where one fits better than a constant."""
    gains: dict[str, dict[str, dict[int, float]]]
    """Arm -> metric -> N -> gain over the rival arm in percent."""
    examples: list[PromptAnswers]
    """Test prompts with the answers of each arm at its default ratio and N, with the first seed."""
    created_at: datetime
    command: list[str]
    git_commit: str | None
    config: dict[str, Any]


def build_experiment_report(
    rows: Sequence[ModelScores],
    rival: GridPoint,
    by_items: ItemDifferences,
    constants: Mapping[str, float],
    examples: Sequence[PromptAnswers],
    config: Mapping[str, Any],
    provenance: Provenance,
) -> ExperimentReport:
    """Compute means, differences, fits and gains over the scores of all models.

    Args:
        by_items: difference of each model from the rival with the same seed, over the items.
        constants: metric -> score of the best constant answer.
    """
    metrics = list(dict.fromkeys(metric for row in rows for metric in row.metrics))
    arms = list(dict.fromkeys(row.arm for row in rows))
    fits = {arm: {metric: fit for metric in metrics if rival.n and (fit := fit_saturation(rows, arm, rival.n, metric))} for arm in arms}
    means = {point: {metric: mean_over_seeds(rows, point, metric) for metric in metrics} for point in list_grid_points(rows)}
    paired = paired_differences(rows, rival, by_items, constants)
    return ExperimentReport(
        name=config["run"]["name"],
        rival=str(rival),
        rows=list(rows),
        means={str(point): estimates for point, estimates in means.items()},
        paired={str(point): _add_verdicts(each, means[point], means[rival], constants) for point, each in paired.items()},
        constants=dict(constants),
        fits={arm: by_metric for arm, by_metric in fits.items() if by_metric},
        gains=_compute_gains(rows, [arm for arm in arms if arm != rival.arm], rival.arm, metrics, constants),
        examples=list(examples),
        created_at=datetime.now(UTC),
        command=provenance.command,
        git_commit=provenance.git_commit,
        config=dict(config),
    )


def _compute_gains(
    rows: Sequence[ModelScores], arms: Sequence[str], rival: str, metrics: Sequence[str], constants: Mapping[str, float]
) -> dict[str, dict[str, dict[int, float]]]:
    """Arm -> metric -> N -> gain over the rival in percent, where there is one."""
    gains = {
        arm: {metric: gain for metric in metrics if (gain := relative_gains(rows, arm, rival, metric, constants.get(metric, 0.0)))}
        for arm in arms
    }
    return {arm: by_metric for arm, by_metric in gains.items() if by_metric}


def _add_verdicts(
    paired: Mapping[str, PairedDifference], left: Mapping[str, Interval], right: Mapping[str, Interval], constants: Mapping[str, float]
) -> dict[str, MetricDifference]:
    """Add the verdict to each metric's difference between two grid points."""
    verdicts: dict[str, MetricDifference] = {}
    for metric, each in paired.items():
        difference = MetricDifference(**asdict(each))
        leader = left if (difference.difference or 0.0) > 0 else right
        verdicts[metric] = replace(difference, verdict=decide_verdict(metric, difference, leader[metric], constants.get(metric)))
    return verdicts
