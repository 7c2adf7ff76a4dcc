"""What the scores of several arms say about each other."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from delia_ray.artifacts import Artifact
from delia_ray.evaluation.config import ScoreConfig
from delia_ray.evaluation.multiplicity import with_holm
from delia_ray.evaluation.stored import compare_scores, constants, read_scores, read_signatures


def compare_all(scores: Mapping[str, Artifact], rivals: Sequence[str], config: ScoreConfig) -> dict[str, Any]:
    """Every arm's metrics, every arm against each of ``rivals``, and what the best constant answer scores.

    Args:
        scores: arm -> its scores, all of the same prompts.
        rivals: arms to compare with, such as plain tuning and the untrained model; one that was not scored is passed over.

    Returns:
        ``arms``, ``paired`` (``LEFT-RIGHT`` -> metric -> difference), ``constants`` and ``signatures``, as ``report.json`` holds them.
    """
    present = [rival for rival in rivals if rival in scores]
    paired: dict[str, dict[str, dict[str, Any]]] = {}
    for at, rival in enumerate(present):
        # A rival is not compared with one that comes before it: that pair is there already, the other way round.
        arms = [arm for arm in scores if arm != rival and arm not in present[at + 1 :]]
        compared = with_holm({arm: compare_scores(scores[arm], scores[rival], config) for arm in arms})
        paired |= {f"{arm}-{rival}": {name: asdict(value) for name, value in found.items()} for arm, found in compared.items()}
    first = next(iter(scores.values()))
    return {
        "arms": {arm: {name: asdict(value) for name, value in read_scores(found).items()} for arm, found in scores.items()},
        "paired": paired,
        "constants": constants(first),
        "signatures": read_signatures(first),
    }
