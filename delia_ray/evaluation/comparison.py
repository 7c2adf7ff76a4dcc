"""Comparison of the scores of several arms: every metric's interval, and paired differences from the arms that each is compared with."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from delia_ray.core.artifacts import Artifact
from delia_ray.evaluation.config import ScoreConfig
from delia_ray.evaluation.statistics.multiplicity import apply_holm_correction
from delia_ray.evaluation.stored import compare_scores, read_scores, read_signatures, score_constants


def compare_arms(scores: Mapping[str, Artifact], rivals: Sequence[str], config: ScoreConfig) -> dict[str, Any]:
    """Compare every arm with each of ``rivals``, and collect every arm's metrics and the best constant answers' scores.

    Args:
        scores: arm -> its scores, all of the same prompts.
        rivals: arms to compare with, such as plain tuning and the untrained model; those that were not scored are skipped.
        config: seed, resamples and equivalence margins.

    Returns:
        ``arms``, ``paired`` (``LEFT-RIGHT`` -> metric -> difference), ``constants`` and ``signatures``, as ``report.json`` holds them.
    """
    present = [rival for rival in rivals if rival in scores]
    paired: dict[str, dict[str, dict[str, Any]]] = {}
    for index, rival in enumerate(present):
        # An earlier rival is compared with a later one, not the other way round.
        arms = [arm for arm in scores if arm != rival and arm not in present[index + 1 :]]
        differences = apply_holm_correction({arm: compare_scores(scores[arm], scores[rival], config) for arm in arms})
        paired |= {f"{arm}-{rival}": {name: asdict(each) for name, each in metrics.items()} for arm, metrics in differences.items()}
    first = next(iter(scores.values()))
    return {
        "arms": {arm: {name: asdict(interval) for name, interval in read_scores(each).items()} for arm, each in scores.items()},
        "paired": paired,
        "constants": score_constants(first),
        "signatures": read_signatures(first),
    }
