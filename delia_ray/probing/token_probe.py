"""Everything that is looked at in one model, in one process.

Shape legend: C carriers, D dimensions, K the layers and the embedding before them, W words.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from delia_ray.evaluation.bootstrap import Interval
from delia_ray.evaluation.format_metrics import parse_verdict
from delia_ray.models import load_model, load_tokenizer, resolve_dtype
from delia_ray.probing.token_behaviour import Shifts, answer_logits, decoded, greedy, share
from delia_ray.probing.token_config import TokenProbe
from delia_ray.probing.token_geometry import cosines, distances, pairwise_scale
from delia_ray.probing.token_lens import lens_view, nearest, ranks, row_cosines
from delia_ray.probing.token_prompts import Mention, Substitution, carrier_prefixes, leak_prompts, leaked_words, random_words
from delia_ray.probing.token_schema import Leak, Model, Row
from delia_ray.probing.token_states import Rows, StateReader, Tail, control_rows, rows_of, set_rows, word_tail
from delia_ray.progress import Tally
from delia_ray.records import Message, keyed_int


class Said(TypedDict):
    """An answer behind the numbers."""

    arm: str
    row: str
    """Which of ``token_schema.ROWS`` the token had."""
    probe: str
    """``leak``; ``spelled`` or ``plain``: what a divergence follows."""
    prompt: str
    answer: str
    leaked: list[str]
    """The ``leak_words`` it says."""
    in_format: bool
    """Whether it is in the built-in task's format."""


SAID_SCHEMA = pa.schema(
    [
        *(pa.field(name, pa.string(), nullable=False) for name in ("arm", "row", "probe", "prompt", "answer")),
        pa.field("leaked", pa.list_(pa.string()), nullable=False),
        pa.field("in_format", pa.bool_(), nullable=False),
    ]
)


@dataclass(frozen=True)
class Questions:
    """What is asked of every model alike."""

    config: TokenProbe
    """Filled."""
    token: str
    substitutions: Sequence[Substitution]
    mentions: Sequence[Mention]
    with_mean: bool
    """Whether the mean row is another than the start model's."""
    in_format: bool
    """Whether the task is the built-in one, whose format an answer may be in."""

    def steps(self, models: int) -> int:
        """How much there is to count: carriers, answers to follow and what follows them, and leaks with each row."""
        followed = 2 * (len(self.substitutions) + len(self.mentions))
        rows = models * (3 + self.with_mean) - 1  # the start model has no fresh row beside its own
        return models * (self.config.carriers + followed) + rows * len(leak_prompts(self.token))


@dataclass(frozen=True)
class Found:
    """What was found in one model."""

    model: Model
    concepts: dict[str, list[str]]
    """Concept -> the vocabulary entries it is read as."""
    said: list[Said]


@dataclass(frozen=True)
class _States:
    """Single precision."""

    token: dict[str, NDArray[np.float32]]
    """Row -> [C, K, D]."""
    concepts: dict[str, NDArray[np.float32]]
    """Concept -> [C, K, D]."""
    words_WKD: NDArray[np.float32]
    """The drawn words' means over carriers."""


class ModelProbe:
    """One model with its rows for the token, and those to compare with.

    Args:
        arm: the model's name.
        folder: of the model.
        start: of the start model, whose row for the token is untrained.
        questions: what to ask.
        dtype: precision of the model.
        tally: counts carriers and prompts.
    """

    def __init__(self, arm: str, folder: Path, start: Path, questions: Questions, dtype: str, tally: Tally):
        self._arm, self._questions, self._tally = arm, questions, tally
        self._config = questions.config
        self._tokenizer = load_tokenizer(folder)
        self._token_id: int = self._tokenizer.convert_tokens_to_ids(questions.token)
        untrained = rows_of(load_model(start, resolve_dtype(dtype)), self._token_id)
        self._model = load_model(folder, resolve_dtype(dtype)).eval().to("cuda" if torch.cuda.is_available() else "cpu")
        start_rows = Rows(*(row.to(self._model.device) for row in untrained))
        self._rows = control_rows(self._model, self._token_id, start_rows, self._config.seed, with_mean=questions.with_mean)
        self._said: list[Said] = []

    def look(self) -> Found:
        """All of it; the model's own rows are what it is left with."""
        prefixes = carrier_prefixes(self._tokenizer, self._config.carriers)
        assert self._config.concepts is not None, "the config is filled"
        tails = {word: word_tail(self._tokenizer, prefixes, word, self._config.pieces) for word in self._config.concepts}
        states = self._states(prefixes, tails)
        scale_K = pairwise_scale(states.words_WKD)
        substitution, negated, asked = self._shifts()
        leaks = {name: self._leak(name) for name in self._rows}
        rows = {
            name: Row(
                **self._geometry(name, states, scale_K),
                **self._place(name, states, tails),
                substitution=substitution[name],
                negated=negated[name],
                asked=asked[name],
                leak=leaks[name],
            )
            for name in self._rows
        }
        self._use("own")
        pieces = {word: [self._tokenizer.decode([piece]) for piece in tail.pieces] for word, tail in tails.items()}
        return Found(Model(scale=np.round(scale_K, 6).tolist(), rows=rows), pieces, self._said)

    def _use(self, name: str) -> None:
        set_rows(self._model, self._token_id, self._rows[name])

    def _states(self, prefixes: Sequence[str], tails: Mapping[str, Tail]) -> _States:
        reader = StateReader(self._model)
        own = word_tail(self._tokenizer, prefixes, self._questions.token, "last")
        drawn = random_words(
            self._tokenizer, lambda place: keyed_int(self._config.seed, "token-probe", str(place)), self._config.random_words
        )
        others = [*tails.values(), *(Tail((place,), (0,)) for place in drawn)]
        total_WKD, concepts, token = torch.zeros(()), list[Tensor](), list[Tensor]()
        for prefix in prefixes:
            kept = reader.prefix(self._tokenizer(prefix, add_special_tokens=False)["input_ids"])
            words_WKD = reader.after(kept, others).cpu()
            concepts.append(words_WKD[: len(tails)].clone())
            total_WKD = total_WKD + words_WKD[len(tails) :]
            token.append(torch.cat([self._state(reader, kept, own, name) for name in self._rows]))
            self._tally.add(rows=1)
        by_concept, by_row = torch.stack(concepts, 1).numpy(), torch.stack(token, 1).numpy()
        return _States(
            dict(zip(self._rows, by_row, strict=True)), dict(zip(tails, by_concept, strict=True)), (total_WKD / len(prefixes)).numpy()
        )

    def _state(self, reader: StateReader, kept: Any, own: Tail, name: str) -> Tensor:
        self._use(name)
        return reader.after(kept, [own]).cpu()

    def _geometry(self, name: str, states: _States, scale_K: NDArray[np.float64]) -> dict[str, Any]:
        token_CKD, config = states.token[name], self._config
        found = {
            concept: distances(token_CKD, concept_CKD, states.words_WKD, scale_K, config.seed, config.resamples)
            for concept, concept_CKD in states.concepts.items()
        }
        return {"distances": found, "random_cosine": np.round(cosines(token_CKD.mean(0), states.words_WKD).mean(0), 6).tolist()}

    def _place(self, name: str, states: _States, tails: Mapping[str, Tail]) -> dict[str, Any]:
        self._use(name)
        top, places = lens_view(self._model, self._tokenizer, torch.from_numpy(states.token[name]), tails, self._config.lens_words)
        table_VD = self._model.get_input_embeddings().weight.detach()
        entries = len(self._tokenizer)
        return {
            "lens": top,
            "ranks": {word: ranks(self._model, self._token_id, tail, places[word], entries) for word, tail in tails.items()},
            "neighbours": nearest(
                self._tokenizer, row_cosines(table_VD, table_VD[self._token_id]), self._token_id, self._config.neighbours
            ),
        }

    def _shifts(self) -> tuple[dict[str, Interval | None], dict[str, Interval], dict[str, Interval]]:
        """Row -> divergence of the answers, for the substitution, the negation and the request."""
        pairs, triples = self._questions.substitutions, self._questions.mentions
        spelled = self._follow("spelled", [(pair.spelled, [pair.named], pair.wordings) for pair in pairs])
        plain = self._follow("plain", [(each.plain, [each.negated, each.asked], each.wordings) for each in triples])
        named = {row: shifts[0] if pairs else None for row, shifts in spelled.items()}
        return named, {row: shifts[0] for row, shifts in plain.items()}, {row: shifts[1] for row, shifts in plain.items()}

    def _follow(
        self, probe: str, prompts: Sequence[tuple[Sequence[Message], Sequence[Sequence[Message]], Sequence[str | None]]]
    ) -> dict[str, list[Interval]]:
        """Row -> for each other way to say the prompts, how far it moves the answers to the first one.

        Args:
            prompts: each one's first way, the others, and the wordings that it may share with other prompts.
        """
        self._use("own")
        references = [reference for reference, _, _ in prompts]
        answers = greedy(self._model, self._tokenizer, references, self._config.answer_tokens, self._tally)
        self._keep("own", probe, references, answers)
        found = {row: [Shifts() for _ in (prompts[0][1] if prompts else ())] for row in self._rows}
        for (reference, others, wordings), answer in zip(prompts, answers, strict=True):
            self._use("own")
            wanted_TV = answer_logits(self._model, self._tokenizer, reference, answer, self._token_id)
            for row, shifts in found.items():
                self._use(row)
                for shift, other in zip(shifts, others, strict=True):
                    shift.add(wanted_TV, answer_logits(self._model, self._tokenizer, other, answer, self._token_id), wordings)
            self._tally.add(rows=1)
        seed, resamples = self._config.seed, self._config.resamples
        return {row: [shift.estimate(seed, resamples) for shift in shifts] for row, shifts in found.items()}

    def _leak(self, row: str) -> Leak:
        self._use(row)
        prompts = leak_prompts(self._questions.token)
        answers = greedy(self._model, self._tokenizer, prompts, self._config.answer_tokens, self._tally)
        kept = self._keep(row, "leak", prompts, answers)
        in_format = share([each["in_format"] for each in kept]) if self._questions.in_format else None
        return Leak(words=share([bool(each["leaked"]) for each in kept]), format=in_format)

    def _keep(self, row: str, probe: str, prompts: Sequence[Sequence[Message]], answers: Sequence[Sequence[int]]) -> list[Said]:
        words = self._config.leak_words or ()
        kept: list[Said] = [
            {
                "arm": self._arm,
                "row": row,
                "probe": probe,
                "prompt": messages[-1]["content"],
                "answer": text,
                "leaked": leaked_words(text, words),
                "in_format": parse_verdict(text, "json") is not None,
            }
            for messages, text in zip(prompts, decoded(self._tokenizer, answers), strict=True)
        ]
        self._said += kept
        return kept
