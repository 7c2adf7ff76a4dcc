"""Records of the token probe, as ``tokens.json`` holds them; the page shows nothing else.

Legend: L the model's layers and the embedding before them, which is layer 0.
"""

from delia_ray.core.records import Record
from delia_ray.evaluation.statistics.intervals import Interval

ROWS = ("own", "fresh", "noise", "mean")
"""Embedding rows to probe the token with: the model's own; the base model's, untrained; noise like other rows; the mean of all rows."""


class Band(Record):
    """A value at each of L layers, with its 95 % bootstrap interval over carriers."""

    value: list[float]
    low: list[float]
    high: list[float]


class Distances(Record):
    """Distances of the token's mean state from a concept's, layer by layer."""

    cosine: Band
    euclidean: Band
    normalized: Band
    """Euclidean distance divided by ``ModelResult.scale``, which is held fixed in the intervals."""
    further: list[float]
    """[L] fraction of the sampled words that are further from the token than the concept is (Euclidean)."""


class VocabularyEntry(Record):
    """An entry of the tokenizer's vocabulary, with a value."""

    text: str
    """The decoded entry; a leading space is part of it."""
    value: float
    """Cosine of a neighbor, or mean probability under the logit lens."""


class Ranks(Record):
    """Ranks of a concept in the vocabulary; 1 is the nearest, or the most likely."""

    input: int
    """By cosine of rows of the input embedding."""
    output: int
    """The same in the output embedding; equal where the model ties the two."""
    lens: list[int]
    """[L] by probability under the logit lens, of the concept's first vocabulary entry."""


class Leak(Record):
    """Rates over the answers to questions about the token's meaning."""

    words: Interval
    """Fraction of answers that contain at least one of ``leak_words``."""
    format: Interval | None
    """Fraction of answers in the built-in task's format; None for other tasks."""


class RowResult(Record):
    """Results of one model with one of ``ROWS`` for the token."""

    distances: dict[str, Distances]
    """Concept -> its distances from the token."""
    random_cosine: list[float]
    """[L] mean cosine with the sampled words."""
    ranks: dict[str, Ranks]
    """Concept -> its ranks."""
    neighbors: list[VocabularyEntry]
    """Nearest rows of the input embedding by cosine, the nearest first."""
    lens: list[list[VocabularyEntry]]
    """[L] most likely words under the logit lens: the token's state goes straight to the head."""
    substitution: Interval | None
    """KL(spelled-out prompt || prompt with the token) in nats per token, along the greedy answer to the spelled-out prompt."""
    negated: Interval
    """KL(no mention || told not to use it) in nats per token, along the greedy answer to the prompt that does not mention it."""
    asked: Interval
    """The same for being told to use it."""
    leak: Leak


class ModelResult(Record):
    """Results of one model."""

    scale: list[float]
    """[L] mean Euclidean distance of two of the sampled words."""
    rows: dict[str, RowResult]
    """Row of ``ROWS`` -> results, the model's own first; ``fresh`` only where it is another row."""


class TokenReport(Record):
    """Content of ``tokens.json``."""

    token: str
    carriers: int
    random_words: int
    pieces: str
    meaning: str | None
    leak_words: list[str]
    concepts: dict[str, list[str]]
    """Concept -> the vocabulary entries that it is tokenized to."""
    models: dict[str, ModelResult]
    """Arm -> results; the base model first."""
