"""Collect a writer's wordings into disjoint splits for training, development and test."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from delia_ray.core.errors import UserError
from delia_ray.rewriting.wording_filter import Accepted, Rejected, WordingFilter


class Writer(Protocol):
    """A source of wordings."""

    def propose(self, count: int) -> Iterator[str]:
        """Yield proposals enough for about ``count`` accepted wordings; the filter rejects some. Ends when the writer gives up."""
        ...


@dataclass(frozen=True)
class Wordings:
    """Wordings of one instruction in three splits. No two of them, in the same split or not, are near-copies."""

    train: tuple[str, ...]
    dev: tuple[str, ...]
    test: tuple[str, ...]


def collect(
    writer: Writer, wording_filter: WordingFilter, *, train: int, dev: int, test: int, seed: int
) -> tuple[Wordings, list[Rejected]]:
    """Take proposals until ``train + dev + test`` of them passed the filter, then assign them to the splits.

    Late wordings had to differ from more others and tend to be longer. So the order of arrival has no influence:
    a hash with ``seed`` assigns the wordings.

    Args:
        writer: proposes the wordings.
        wording_filter: a new one; it keeps the bound on similarity across splits.
        train: wordings of the training split.
        dev: wordings of the development split.
        test: wordings of the test split.
        seed: seed of the assignment.

    Returns:
        The wordings, and all rejected proposals.

    Raises:
        UserError: the writer gave up before there were enough.
    """
    needed = train + dev + test
    accepted: list[str] = []
    rejected: list[Rejected] = []
    for proposal in writer.propose(needed):
        match wording_filter.check(proposal):
            case Accepted(wording):
                accepted.append(wording)
            case Rejected() as rejection:
                rejected.append(rejection)
        if len(accepted) == needed:
            break
    if len(accepted) < needed:
        raise UserError(_explain_shortage(accepted, rejected, needed))
    ordered = sorted(accepted, key=lambda wording: hashlib.blake2b(f"{seed}\0{wording}".encode()).digest())
    return Wordings(tuple(ordered[:train]), tuple(ordered[train : train + dev]), tuple(ordered[train + dev :])), rejected


def _explain_shortage(accepted: list[str], rejected: list[Rejected], needed: int) -> str:
    counts = Counter(rejection.reason for rejection in rejected)
    reasons = ", ".join(f"{count} for {reason}" for reason, count in counts.most_common()) or "none"
    return (
        f"rewrite: {needed - len(accepted)} of {needed} wordings are missing; {len(rejected)} proposals were rejected ({reasons}); "
        "lower rewrite.train_wordings, dev_wordings or test_wordings, or raise rewrite.max_similarity "
        "or, for kind model, rewrite.attempts_per_wording"
    )
