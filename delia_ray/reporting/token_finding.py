"""What held of a new token, in plain sentences that follow from ``tokens.json`` by fixed rules.

Two values differ where their 95 % intervals do not overlap; nothing is corrected for how many are compared.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from delia_ray.evaluation.bootstrap import Interval
from delia_ray.probing.token_schema import Model, Row, TokenReport
from delia_ray.reporting.glossary import arm_title
from delia_ray.reporting.numerals import number, percent


class ArmFinding(NamedTuple):
    """What held in one model."""

    arm: str
    sentences: list[str]


class Places(NamedTuple):
    """A place is a concept at a layer."""

    closer: int
    further: int
    all: int


def findings(report: TokenReport) -> list[ArmFinding]:
    """For each tuned model: against its own untrained row, and against the untuned model."""
    base = next(iter(report.models.values()))
    return [ArmFinding(arm, list(_sentences(report, model, base))) for arm, model in report.models.items() if "fresh" in model.rows]


def _sentences(report: TokenReport, model: Model, base: Model) -> Iterator[str]:
    own, fresh = model.rows["own"], model.rows["fresh"]
    yield _distance(report, own, fresh)
    yield _specific(own, fresh)
    yield _rank(report, own, base.rows["own"])
    if own.substitution is not None and fresh.substitution is not None:
        yield _substitution(report, own.substitution, fresh.substitution)
    yield _negation(own, fresh)
    yield _leak(own, fresh)


def compared(own: Row, fresh: Row) -> Places:
    """At how many places the trained row is closer to a concept than the untrained one, and further away."""
    pairs = [(own.distances[concept].normalised, fresh.distances[concept].normalised) for concept in own.distances]
    closer = sum(high < low for one, other in pairs for high, low in zip(one.high, other.low, strict=True))
    further = sum(low > high for one, other in pairs for low, high in zip(one.low, other.high, strict=True))
    return Places(closer, further, sum(len(one.value) for one, _ in pairs))


def _distance(report: TokenReport, own: Row, fresh: Row) -> str:
    places = compared(own, fresh)
    gains = {
        (concept, layer): other - one
        for concept in own.distances
        for layer, (one, other) in enumerate(
            zip(own.distances[concept].normalised.value, fresh.distances[concept].normalised.value, strict=True)
        )
    }
    concept, layer = max(gains, key=lambda place: gains[place])
    distance = own.distances[concept].normalised.value[layer]
    untrained = fresh.distances[concept].normalised.value[layer]
    return (
        f"Distance: {report.token} is closer to the concept words than with its untrained row at {places.closer} of {places.all} places "
        f"(a word at a layer, intervals apart), further away at {places.further}. It gained most on “{concept}” at layer {layer}: "
        f"{number(distance)} of the distance of two drawn words, with the untrained row {number(untrained)}."
    )


def mean_further(row: Row) -> float:
    """Mean over concepts and layers of the share of drawn words that are further away than the concept."""
    return float(np.mean([distances.further for distances in row.distances.values()]))


def _specific(own: Row, fresh: Row) -> str:
    return (
        f"To these words or to all: a concept word is nearer than {percent(mean_further(own))} of the drawn words, on average over "
        f"words and layers; with the untrained row, nearer than {percent(mean_further(fresh))}."
    )


def _rank(report: TokenReport, own: Row, before: Row) -> str:
    nearest = min(own.ranks, key=lambda concept: own.ranks[concept].input)
    return (
        f"Embedding: of the concepts, “{nearest}” is nearest to the row of {report.token}, in place {own.ranks[nearest].input} of the "
        f"vocabulary, before training in place {before.ranks[nearest].input}."
    )


def _substitution(report: TokenReport, own: Interval, fresh: Interval) -> str:
    if apart(own, fresh):
        verdict = f"{report.token} stands in for some of the instruction, an untrained token for less of it"
    elif apart(fresh, own):
        verdict = "an untrained token stands in for more of it"
    else:
        verdict = "not told apart"
    return (
        f"Substitution: named instead of spelled out, the instruction moves the answers by {_between(own)} nats a token; "
        f"with the untrained row by {_between(fresh)}: {verdict}."
    )


def _negation(own: Row, fresh: Row) -> str:
    if apart(own.negated, own.asked):
        verdict = "it tells “do not” from “do”"
    elif apart(own.asked, own.negated):
        verdict = "“do not” moves it even more than “do”"
    else:
        verdict = "it does not tell “do not” from “do”"
    return (
        f"Negation: told not to use it, the answers move by {_between(own.negated)} nats a token "
        f"(untrained row: {_between(fresh.negated)}), told to use it by {_between(own.asked)} "
        f"(untrained row: {_between(fresh.asked)}): {verdict}."
    )


def _leak(own: Row, fresh: Row) -> str:
    sentence = (
        f"Leak: asked what it means, the model says a word that gives it away in {percent(own.leak.words.value)} of the answers, "
        f"with the untrained row in {percent(fresh.leak.words.value)}"
    )
    if own.leak.format is None or fresh.leak.format is None:
        return f"{sentence}."
    return f"{sentence}; {percent(own.leak.format.value)} are in the format, with the untrained row {percent(fresh.leak.format.value)}."


def apart(lower: Interval, higher: Interval) -> bool:
    """Whether the interval of ``lower`` lies below that of ``higher``."""
    return lower.high is not None and higher.low is not None and lower.high < higher.low


def _between(estimate: Interval) -> str:
    if estimate.low is None:
        return f"{number(estimate.value)} (no interval)"
    return f"{number(estimate.value)} [{number(estimate.low)}, {number(estimate.high)}]"


def title(arm: str, row: str) -> str:
    """A model and the token's row in it, as a label."""
    return arm_title(arm) if row == "own" else f"{arm_title(arm)}, {row}"
