"""Findings about a new token, as sentences that follow from ``tokens.json`` by fixed rules.

Two values count as different where their 95 % intervals do not overlap, without correction for the number of comparisons.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from delia_ray.evaluation.statistics.intervals import Interval
from delia_ray.probing.tokens.schema import ModelResult, RowResult, TokenReport
from delia_ray.reporting.wording.formatting import format_number, format_percent
from delia_ray.reporting.wording.glossary import get_arm_title


class ArmSummary(NamedTuple):
    """Findings about the token in one arm's model."""

    arm: str
    sentences: list[str]


class PlaceCounts(NamedTuple):
    """Counts of places; a place is one concept word at one layer."""

    closer: int
    further: int
    all: int


def summarize_arms(report: TokenReport) -> list[ArmSummary]:
    """Summarize each tuned model: its trained row against the untrained row, and against the untuned model."""
    base = next(iter(report.models.values()))
    return [ArmSummary(arm, list(_write_sentences(report, model, base))) for arm, model in report.models.items() if "fresh" in model.rows]


def _write_sentences(report: TokenReport, model: ModelResult, base: ModelResult) -> Iterator[str]:
    own, fresh = model.rows["own"], model.rows["fresh"]
    yield _describe_distance(report, own, fresh)
    yield _describe_specificity(report, own, fresh)
    yield _describe_rank(report, own, base.rows["own"])
    if own.substitution is not None and fresh.substitution is not None:
        yield _describe_substitution(report, own.substitution, fresh.substitution)
    yield _describe_negation(report, own, fresh)
    yield _describe_leak(report, own, fresh)


def count_places(own: RowResult, fresh: RowResult) -> PlaceCounts:
    """Count the places where the trained row is closer to a concept than the untrained row, and where it is further away."""
    pairs = [(own.distances[concept].normalized, fresh.distances[concept].normalized) for concept in own.distances]
    closer = sum(high < low for trained, untrained in pairs for high, low in zip(trained.high, untrained.low, strict=True))
    further = sum(low > high for trained, untrained in pairs for low, high in zip(trained.low, untrained.high, strict=True))
    return PlaceCounts(closer, further, sum(len(trained.value) for trained, _ in pairs))


def _describe_distance(report: TokenReport, own: RowResult, fresh: RowResult) -> str:
    places = count_places(own, fresh)
    gains = {
        (concept, layer): untrained - trained
        for concept in own.distances
        for layer, (trained, untrained) in enumerate(
            zip(own.distances[concept].normalized.value, fresh.distances[concept].normalized.value, strict=True)
        )
    }
    concept, layer = max(gains, key=lambda place: gains[place])
    trained = own.distances[concept].normalized.value[layer]
    untrained = fresh.distances[concept].normalized.value[layer]
    return (
        f"Distance: with its trained row, {report.token} is closer to the concept words than with its untrained row at {places.closer} of "
        f"{places.all} places (a place is one word at one layer) and further away at {places.further}. The largest gain is for “{concept}” "
        f"at layer {layer}: {format_number(trained)} times the mean distance of two random words, {format_number(untrained)} with the "
        "untrained row."
    )


def mean_further(row: RowResult) -> float:
    """Share of random words that are further from the token than a concept word, as the mean over concepts and layers."""
    return float(np.mean([distances.further for distances in row.distances.values()]))


def _describe_specificity(report: TokenReport, own: RowResult, fresh: RowResult) -> str:
    return (
        f"Specificity: a concept word is closer to {report.token} than {format_percent(mean_further(own))} of the random words are, on "
        f"average over words and layers; with the untrained row, closer than {format_percent(mean_further(fresh))}."
    )


def _describe_rank(report: TokenReport, own: RowResult, before: RowResult) -> str:
    nearest = min(own.ranks, key=lambda concept: own.ranks[concept].input)
    return (
        f"Embedding: the concept word nearest to the row of {report.token} is “{nearest}”, at rank {own.ranks[nearest].input} in the "
        f"vocabulary; before training its rank was {before.ranks[nearest].input}."
    )


def _describe_substitution(report: TokenReport, own: Interval, fresh: Interval) -> str:
    if is_below(own, fresh):
        verdict = f"{report.token} replaces more of the instruction than an untrained token does"
    elif is_below(fresh, own):
        verdict = "an untrained token replaces more of the instruction"
    else:
        verdict = "no difference was found"
    return (
        f"Substitution: where {report.token} replaces the spelled-out instruction, the answers change by {_format_interval(own)} nats per "
        f"token, with the untrained row by {_format_interval(fresh)}: {verdict}."
    )


def _describe_negation(report: TokenReport, own: RowResult, fresh: RowResult) -> str:
    if is_below(own.negated, own.asked):
        verdict = "the model tells “do not” from “do”"
    elif is_below(own.asked, own.negated):
        verdict = "“do not” changes them even more than “do”"
    else:
        verdict = "the model does not tell “do not” from “do”"
    return (
        f"Negation: a sentence that says not to use {report.token} changes the answers by {_format_interval(own.negated)} nats per token "
        f"(untrained row: {_format_interval(fresh.negated)}), one that says to use it by {_format_interval(own.asked)} "
        f"(untrained row: {_format_interval(fresh.asked)}): {verdict}."
    )


def _describe_leak(report: TokenReport, own: RowResult, fresh: RowResult) -> str:
    sentence = (
        f"Leak: asked what {report.token} means, the model says a word that gives the meaning away in "
        f"{format_percent(own.leak.words.value)} of its answers (untrained row: {format_percent(fresh.leak.words.value)})"
    )
    if own.leak.format is None or fresh.leak.format is None:
        return f"{sentence}."
    return (
        f"{sentence}; {format_percent(own.leak.format.value)} of the answers are in the format "
        f"(untrained row: {format_percent(fresh.leak.format.value)})."
    )


def is_below(lower: Interval, higher: Interval) -> bool:
    """Return whether the interval of ``lower`` lies entirely below that of ``higher``."""
    return lower.high is not None and higher.low is not None and lower.high < higher.low


def _format_interval(estimate: Interval) -> str:
    if estimate.low is None:
        return f"{format_number(estimate.value)} (no interval)"
    return f"{format_number(estimate.value)} [{format_number(estimate.low)}, {format_number(estimate.high)}]"


def format_row_title(arm: str, row: str) -> str:
    """Format the label of a model with one of the token's embedding rows; the trained row goes without mention."""
    return get_arm_title(arm) if row == "own" else f"{get_arm_title(arm)}, {row}"
