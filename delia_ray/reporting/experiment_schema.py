"""The record behind an experiment's page: everything it prints is in ``experiment.json``."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from pydantic import Field

from delia_ray.artifacts import Provenance
from delia_ray.evaluation.bootstrap import Difference as Paired
from delia_ray.evaluation.grid import ByItems, Place, Row, Saturation, differences, gains, mean, places, saturation
from delia_ray.records import Record
from delia_ray.reporting.schema import Answers, Difference, Estimate
from delia_ray.reporting.verdict import outcome


class Findings(Record):
    """``experiment.json``."""

    name: str
    rival: str
    """The place that all others are compared with."""
    rows: list[Row]
    """One a model."""
    means: dict[str, dict[str, Estimate]]
    """Place -> metric -> mean over seeds with its interval, of Student's t or of the items, whichever is wider; ``n`` counts seeds. Of a
    model that was not trained: its value with the interval of the items; ``n`` counts items."""
    paired: dict[str, dict[str, Difference]]
    """Place -> metric -> place minus rival, paired by seed."""
    constants: dict[str, float] = Field(default={})
    """Metric -> what the best constant answer scores."""
    fits: dict[str, dict[str, Saturation]]
    """Arm -> metric -> how the score follows rho, where it could be fitted."""
    gains: dict[str, dict[str, dict[int, float]]]
    """Arm -> metric -> N -> percent over the rival arm."""
    examples: list[Answers]
    """Of each arm at its own ratio and size, under the first seed."""
    created_at: datetime
    command: list[str]
    git_commit: str | None
    config: dict[str, Any]


def findings(
    rows: Sequence[Row],
    rival: Place,
    by_items: ByItems,
    constants: Mapping[str, float],
    examples: Sequence[Answers],
    config: Mapping[str, Any],
    provenance: Provenance,
) -> Findings:
    """Means, differences, fits and gains over all ``rows``.

    Args:
        by_items: how each model differs from the rival's of the same seed, over the items.
        constants: metric -> what the best constant answer scores.
    """
    metrics = list(dict.fromkeys(metric for row in rows for metric in row.metrics))
    arms = list(dict.fromkeys(row.arm for row in rows))
    fits = {arm: {metric: fit for metric in metrics if rival.n and (fit := saturation(rows, arm, rival.n, metric))} for arm in arms}
    gained = {
        arm: {metric: found for metric in metrics if (found := gains(rows, arm, rival.arm, metric, constants.get(metric, 0.0)))}
        for arm in arms
        if arm != rival.arm
    }
    means = {place: {metric: Estimate.of(mean(rows, place, metric)) for metric in metrics} for place in places(rows)}
    apart = differences(rows, rival, by_items, constants)
    return Findings(
        name=config["run"]["name"],
        rival=str(rival),
        rows=list(rows),
        means={str(place): found for place, found in means.items()},
        paired={str(place): _judged(found, means[place], means[rival], constants) for place, found in apart.items()},
        constants=dict(constants),
        fits={arm: found for arm, found in fits.items() if found},
        gains={arm: found for arm, found in gained.items() if found},
        examples=list(examples),
        created_at=datetime.now(UTC),
        command=provenance.command,
        git_commit=provenance.git_commit,
        config=dict(config),
    )


def _judged(
    found: Mapping[str, Paired], left: Mapping[str, Estimate], right: Mapping[str, Estimate], constants: Mapping[str, float]
) -> dict[str, Difference]:
    """The differences of a place, each with its verdict."""
    judged: dict[str, Difference] = {}
    for metric, paired in found.items():
        difference = Difference(**asdict(paired))
        ahead = left if (difference.difference or 0.0) > 0 else right
        judged[metric] = difference.model_copy(update={"verdict": outcome(metric, difference, ahead[metric], constants.get(metric))})
    return judged
