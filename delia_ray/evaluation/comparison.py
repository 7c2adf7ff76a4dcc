"""What the scores of several arms say about each other."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from delia_ray.artifacts import Artifact
from delia_ray.evaluation.config import ScoreConfig
from delia_ray.evaluation.stage import compare_scores, majority, read_scores


def compare_all(scores: Mapping[str, Artifact], rivals: Sequence[str], config: ScoreConfig) -> dict[str, Any]:
    """Every arm's metrics, every arm against each of ``rivals``, and the majority baseline.

    Args:
        scores: arm -> its scores, all of the same prompts.
        rivals: arms to compare with, such as plain tuning and the untrained model; one that was not scored is passed over.

    Returns:
        ``arms``, ``paired`` (``LEFT-RIGHT`` -> metric -> difference) and ``majority``, as ``report.json`` holds them.
    """
    present = [rival for rival in rivals if rival in scores]
    # A rival is not compared with one that comes before it: that pair is there already, the other way round.
    pairs = [(arm, rival) for at, rival in enumerate(present) for arm in scores if arm != rival and arm not in present[at + 1 :]]
    return {
        "arms": {arm: {name: asdict(value) for name, value in read_scores(found).items()} for arm, found in scores.items()},
        "paired": {
            f"{left}-{right}": {name: asdict(value) for name, value in compare_scores(scores[left], scores[right], config).items()}
            for left, right in pairs
        },
        "majority": majority(next(iter(scores.values()))),
    }
