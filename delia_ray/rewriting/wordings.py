"""From a writer's proposals to wordings for training, development and test that never meet."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from delia_ray.errors import UserError
from delia_ray.rewriting.gate import Admitted, Gate, Refused


class Writer(Protocol):
    """Whatever can propose wordings."""

    def propose(self, count: int) -> Iterator[str]:
        """Proposals enough for about ``count`` good wordings; the gate refuses some. Ends when the writer gives up."""
        ...


@dataclass(frozen=True)
class Wordings:
    """Wordings of one instruction in three splits. No two of them, of whatever split, are near copies."""

    train: tuple[str, ...]
    dev: tuple[str, ...]
    test: tuple[str, ...]


def collect(writer: Writer, gate: Gate, *, train: int, dev: int, test: int, seed: int) -> tuple[Wordings, list[Refused]]:
    """Take proposals until ``train + dev + test`` of them passed ``gate``, then deal them into the splits.

    Late wordings had to differ from more others and tend to be longer, so the order of arrival decides nothing:
    a hash keyed by ``seed`` deals them.

    Args:
        gate: a fresh one; it is what keeps the bound on similarity across splits.

    Returns:
        The wordings, and all that was refused on the way.

    Raises:
        UserError: the writer gave up before there were enough.
    """
    wanted = train + dev + test
    admitted: list[str] = []
    refused: list[Refused] = []
    for proposal in writer.propose(wanted):
        match gate.admit(proposal):
            case Admitted(wording):
                admitted.append(wording)
            case Refused() as refusal:
                refused.append(refusal)
        if len(admitted) == wanted:
            break
    if len(admitted) < wanted:
        raise UserError(_ran_dry(admitted, refused, wanted))
    dealt = sorted(admitted, key=lambda wording: hashlib.blake2b(f"{seed}\0{wording}".encode()).digest())
    return Wordings(tuple(dealt[:train]), tuple(dealt[train : train + dev]), tuple(dealt[train + dev :])), refused


def _ran_dry(admitted: list[str], refused: list[Refused], wanted: int) -> str:
    reasons = ", ".join(f"{count} for {reason}" for reason, count in Counter(r.reason for r in refused).most_common())
    return (
        f"rewrite: {wanted - len(admitted)} of {wanted} wordings are missing; {len(refused)} proposals were refused ({reasons or 'none'}); "
        "lower rewrite.train_wordings, dev_wordings or test_wordings, or raise rewrite.max_similarity "
        "or, for kind model, rewrite.attempts_per_wording"
    )
