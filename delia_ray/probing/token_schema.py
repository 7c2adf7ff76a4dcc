"""The record behind the page of the new token: everything it prints is in ``tokens.json``.

Legend: L the model's layers and the embedding before them, which is layer 0.
"""

from delia_ray.evaluation.bootstrap import Interval
from delia_ray.records import Record

ROWS = ("own", "fresh", "noise", "mean")
"""What the token's embedding row is: the model's own; the start model's, untrained; noise like other rows; the mean of all rows."""


class Band(Record):
    """A value at each of L layers, with its 95 % bootstrap interval over carriers."""

    value: list[float]
    low: list[float]
    high: list[float]


class Distances(Record):
    """How far the token's mean state is from a concept's, layer by layer."""

    cosine: Band
    euclidean: Band
    normalised: Band
    """Euclidean over ``Model.scale``, which is held fixed in the intervals."""
    further: list[float]
    """[L] share of the drawn words that are further from the token than the concept is (Euclidean)."""


class Word(Record):
    """A vocabulary entry."""

    text: str
    """As it decodes; a leading space is part of it."""
    value: float
    """Cosine of a neighbour, mean probability under the lens."""


class Ranks(Record):
    """Places of a concept in the vocabulary; 1 is the nearest, or the likeliest."""

    input: int
    """By cosine of rows of the input embedding."""
    output: int
    """The same in the output embedding; equal where the model ties the two."""
    lens: list[int]
    """[L] by probability under the logit lens, of the concept's first vocabulary entry."""


class Leak(Record):
    """Answers to questions after the token's meaning."""

    words: Interval
    """Share that says at least one of ``leak_words``."""
    format: Interval | None
    """Share that is in the built-in task's format; null for other tasks."""


class Row(Record):
    """A model whose token has one of ``ROWS``."""

    distances: dict[str, Distances]
    random_cosine: list[float]
    """[L] mean cosine with the drawn words."""
    ranks: dict[str, Ranks]
    neighbours: list[Word]
    """Nearest rows of the input embedding by cosine, the nearest first."""
    lens: list[list[Word]]
    """[L] likeliest words when the token's state goes straight to the head."""
    substitution: Interval | None
    """KL(spelled out || token) in nats a token, along the greedy answer to the spelled-out prompt."""
    negated: Interval
    """KL(no mention || told not to use it) in nats a token, along the greedy answer to the prompt that does not mention it."""
    asked: Interval
    """The same for being told to use it."""
    leak: Leak


class Model(Record):
    """What was found in one model."""

    scale: list[float]
    """[L] mean Euclidean distance of two of the drawn words."""
    rows: dict[str, Row]
    """The model's own first; ``fresh`` only where it is another."""


class TokenReport(Record):
    """``tokens.json``."""

    token: str
    carriers: int
    random_words: int
    pieces: str
    meaning: str | None
    leak_words: list[str]
    concepts: dict[str, list[str]]
    """Concept -> the vocabulary entries it is read as."""
    models: dict[str, Model]
    """Arm -> what was found; the untuned model first."""
