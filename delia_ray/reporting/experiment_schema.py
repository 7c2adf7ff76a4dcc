"""The record behind an experiment's page: everything it prints is in ``experiment.json``."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from delia_ray.artifacts import Provenance
from delia_ray.evaluation.grid import Place, Row, Saturation, differences, gains, mean, places, saturation
from delia_ray.records import Record
from delia_ray.reporting.schema import Answers, Difference, Estimate


class Findings(Record):
    """``experiment.json``."""

    name: str
    rival: str
    """The place that all others are compared with."""
    rows: list[Row]
    """One a model."""
    means: dict[str, dict[str, Estimate]]
    """Place -> metric -> mean over seeds with its t interval; ``n`` counts seeds."""
    paired: dict[str, dict[str, Difference]]
    """Place -> metric -> place minus rival, paired by seed."""
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


def findings(rows: Sequence[Row], rival: Place, examples: Sequence[Answers], config: Mapping[str, Any], provenance: Provenance) -> Findings:
    """Means, differences, fits and gains over all ``rows``."""
    metrics = list(dict.fromkeys(metric for row in rows for metric in row.metrics))
    arms = list(dict.fromkeys(row.arm for row in rows))
    fits = {arm: {metric: fit for metric in metrics if rival.n and (fit := saturation(rows, arm, rival.n, metric))} for arm in arms}
    gained = {
        arm: {metric: found for metric in metrics if (found := gains(rows, arm, rival.arm, metric))} for arm in arms if arm != rival.arm
    }
    return Findings.model_validate(
        {
            "name": config["run"]["name"],
            "rival": str(rival),
            "rows": list(rows),
            "means": {str(place): {metric: Estimate.of(mean(rows, place, metric)) for metric in metrics} for place in places(rows)},
            "paired": {
                str(place): {metric: asdict(value) for metric, value in found.items()} for place, found in differences(rows, rival).items()
            },
            "fits": {arm: found for arm, found in fits.items() if found},
            "gains": {arm: found for arm, found in gained.items() if found},
            "examples": list(examples),
            "created_at": datetime.now(UTC),
            "command": provenance.command,
            "git_commit": provenance.git_commit,
            "config": dict(config),
        }
    )
