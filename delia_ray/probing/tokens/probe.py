"""The token probe of one model, in one process: distances, ranks, neighbors, logit lens, substitution, mentions, leaks.

Shape legend: C carriers, D dimensions, K the layers and the embedding before them, T positions, V vocabulary, W words.
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

from delia_ray.core.progress import Tally
from delia_ray.core.records import Message, keyed_int
from delia_ray.evaluation.metrics.format_metrics import parse_formatted_output
from delia_ray.evaluation.statistics.intervals import Interval
from delia_ray.models import load_model, load_tokenizer, resolve_dtype
from delia_ray.probing.tokens.behavior import AnswerDivergence, answer_greedily, compute_answer_logits, decode_answers, estimate_rate
from delia_ray.probing.tokens.config import TokenProbeConfig
from delia_ray.probing.tokens.geometry import cosines, mean_pairwise_distance, measure_distances
from delia_ray.probing.tokens.lens import find_nearest, rank_concept, row_cosines, summarize_lens
from delia_ray.probing.tokens.prompts import MentionPrompt, SubstitutionPrompt, find_leaks, make_leak_prompts, render_carriers, sample_words
from delia_ray.probing.tokens.schema import Leak, ModelResult, RowResult
from delia_ray.probing.tokens.states import HiddenStateReader, TokenRows, WordTokens, copy_rows, make_control_rows, set_rows, tokenize_word


class AnswerRecord(TypedDict):
    """An answer behind the numbers; a row of ``answers.parquet``."""

    arm: str
    row: str
    """Which of ``schema.ROWS`` the token had."""
    probe: str
    """``leak``; ``spelled`` or ``plain``: the answer that a divergence follows."""
    prompt: str
    answer: str
    leaked: list[str]
    """The ``leak_words`` that it contains."""
    in_format: bool
    """Whether it is in the built-in task's format."""


ANSWER_SCHEMA = pa.schema(
    [
        *(pa.field(name, pa.string(), nullable=False) for name in ("arm", "row", "probe", "prompt", "answer")),
        pa.field("leaked", pa.list_(pa.string()), nullable=False),
        pa.field("in_format", pa.bool_(), nullable=False),
    ]
)


@dataclass(frozen=True)
class TokenProbeJob:
    """The inputs of the token probe that all models have in common."""

    config: TokenProbeConfig
    """With the task's defaults filled in."""
    token: str
    substitutions: Sequence[SubstitutionPrompt]
    mentions: Sequence[MentionPrompt]
    with_mean: bool
    """Whether the mean row differs from the base model's row."""
    in_format: bool
    """Whether the task is the built-in one, whose format an answer may be in."""

    def count_steps(self, models: int) -> int:
        """Count the steps of the progress: carriers, two for each followed answer, and leak prompts with each row."""
        followed = 2 * (len(self.substitutions) + len(self.mentions))
        rows = models * (3 + self.with_mean) - 1  # the base model has no fresh row beside its own
        return models * (self.config.carriers + followed) + rows * len(make_leak_prompts(self.token))


@dataclass(frozen=True)
class TokenProbeResult:
    """Results and answers of one model."""

    model: ModelResult
    concepts: dict[str, list[str]]
    """Concept -> the vocabulary entries that it is tokenized to."""
    answers: list[AnswerRecord]


@dataclass(frozen=True)
class _HiddenStates:
    """Hidden states of the token, the concepts and the sampled words, in single precision."""

    token: dict[str, NDArray[np.float32]]
    """Row -> [C, K, D]."""
    concepts: dict[str, NDArray[np.float32]]
    """Concept -> [C, K, D]."""
    words_WKD: NDArray[np.float32]
    """Means of the sampled words over carriers."""


class ModelProbe:
    """Probes one model with its own rows for the token, and with control rows.

    Args:
        arm: the model's name.
        folder: folder of the model.
        base: folder of the base model, whose row for the token is untrained.
        job: settings and prompts.
        dtype: precision of the model.
        tally: counts carriers and prompts.
    """

    def __init__(self, arm: str, folder: Path, base: Path, job: TokenProbeJob, dtype: str, tally: Tally):
        self._arm, self._job, self._tally = arm, job, tally
        self._config = job.config
        self._tokenizer = load_tokenizer(folder)
        self._token_id: int = self._tokenizer.convert_tokens_to_ids(job.token)
        untrained = copy_rows(load_model(base, resolve_dtype(dtype)), self._token_id)
        self._model = load_model(folder, resolve_dtype(dtype)).eval().to("cuda" if torch.cuda.is_available() else "cpu")
        base_rows = TokenRows(*(row.to(self._model.device) for row in untrained))
        self._rows = make_control_rows(self._model, self._token_id, base_rows, self._config.seed, with_mean=job.with_mean)
        self._answers: list[AnswerRecord] = []

    def run(self) -> TokenProbeResult:
        """Run all measurements; at the end the model has its own rows again."""
        prefixes = render_carriers(self._tokenizer, self._config.carriers)
        assert self._config.concepts is not None, "the config is filled"
        concepts = {word: tokenize_word(self._tokenizer, prefixes, word, self._config.pieces) for word in self._config.concepts}
        states = self._read_states(prefixes, concepts)
        scale_K = mean_pairwise_distance(states.words_WKD)
        substitution, negated, asked = self._measure_shifts()
        leaks = {name: self._measure_leak(name) for name in self._rows}
        rows = {
            name: RowResult(
                **self._measure_geometry(name, states, scale_K),
                **self._measure_vocabulary(name, states, concepts),
                substitution=substitution[name],
                negated=negated[name],
                asked=asked[name],
                leak=leaks[name],
            )
            for name in self._rows
        }
        self._set_row("own")
        pieces = {word: [self._tokenizer.decode([piece]) for piece in tokens.pieces] for word, tokens in concepts.items()}
        return TokenProbeResult(ModelResult(scale=np.round(scale_K, 6).tolist(), rows=rows), pieces, self._answers)

    def _set_row(self, name: str) -> None:
        set_rows(self._model, self._token_id, self._rows[name])

    def _read_states(self, prefixes: Sequence[str], concepts: Mapping[str, WordTokens]) -> _HiddenStates:
        reader = HiddenStateReader(self._model)
        token = tokenize_word(self._tokenizer, prefixes, self._job.token, "last")
        seed, count = self._config.seed, self._config.random_words
        sampled = sample_words(self._tokenizer, lambda token_id: keyed_int(seed, "token-probe", str(token_id)), count)
        words = [*concepts.values(), *(WordTokens((token_id,), (0,)) for token_id in sampled)]
        total_WKD, concept_states, token_states = torch.zeros(()), list[Tensor](), list[Tensor]()
        for prefix in prefixes:
            cache = reader.compute_cache(self._tokenizer(prefix, add_special_tokens=False)["input_ids"])
            words_WKD = reader.read_states(cache, words).cpu()
            concept_states.append(words_WKD[: len(concepts)].clone())
            total_WKD = total_WKD + words_WKD[len(concepts) :]
            token_states.append(torch.cat([self._read_token_state(reader, cache, token, name) for name in self._rows]))
            self._tally.add(rows=1)
        by_row = dict(zip(self._rows, torch.stack(token_states, 1).numpy(), strict=True))
        by_concept = dict(zip(concepts, torch.stack(concept_states, 1).numpy(), strict=True))
        return _HiddenStates(by_row, by_concept, (total_WKD / len(prefixes)).numpy())

    def _read_token_state(self, reader: HiddenStateReader, cache: Any, token: WordTokens, name: str) -> Tensor:
        self._set_row(name)
        return reader.read_states(cache, [token]).cpu()

    def _measure_geometry(self, name: str, states: _HiddenStates, scale_K: NDArray[np.float64]) -> dict[str, Any]:
        token_CKD, config = states.token[name], self._config
        distances = {
            concept: measure_distances(token_CKD, concept_CKD, states.words_WKD, scale_K, config.seed, config.resamples)
            for concept, concept_CKD in states.concepts.items()
        }
        return {"distances": distances, "random_cosine": np.round(cosines(token_CKD.mean(0), states.words_WKD).mean(0), 6).tolist()}

    def _measure_vocabulary(self, name: str, states: _HiddenStates, concepts: Mapping[str, WordTokens]) -> dict[str, Any]:
        self._set_row(name)
        model, tokenizer, token_id, config = self._model, self._tokenizer, self._token_id, self._config
        top, lens_ranks = summarize_lens(model, tokenizer, torch.from_numpy(states.token[name]), concepts, config.lens_words)
        table_VD = model.get_input_embeddings().weight.detach()
        entries = len(tokenizer)
        return {
            "lens": top,
            "ranks": {word: rank_concept(model, token_id, tokens, lens_ranks[word], entries) for word, tokens in concepts.items()},
            "neighbors": find_nearest(tokenizer, row_cosines(table_VD, table_VD[token_id]), token_id, config.neighbors),
        }

    def _measure_shifts(self) -> tuple[dict[str, Interval | None], dict[str, Interval], dict[str, Interval]]:
        """Measure, for each row, the divergence of the answers under the substitution, the negation and the request to use the token."""
        pairs, triples = self._job.substitutions, self._job.mentions
        spelled = self._measure_divergences("spelled", [(pair.spelled, [pair.named], pair.wordings) for pair in pairs])
        plain = self._measure_divergences("plain", [(each.plain, [each.negated, each.asked], each.wordings) for each in triples])
        named = {row: intervals[0] if pairs else None for row, intervals in spelled.items()}
        return named, {row: intervals[0] for row, intervals in plain.items()}, {row: intervals[1] for row, intervals in plain.items()}

    def _measure_divergences(
        self, probe: str, prompts: Sequence[tuple[Sequence[Message], Sequence[Sequence[Message]], Sequence[str | None]]]
    ) -> dict[str, list[Interval]]:
        """Measure, for each row and each other version of the prompts, the divergence from the answers to the first version.

        Args:
            probe: name of the first version in the answer records.
            prompts: each prompt's first version, its other versions, and the wordings that it may share with other prompts.
        """
        self._set_row("own")
        references = [reference for reference, _, _ in prompts]
        answers = answer_greedily(self._model, self._tokenizer, references, self._config.answer_tokens, self._tally)
        self._record_answers("own", probe, references, answers)
        by_row = {row: [AnswerDivergence() for _ in (prompts[0][1] if prompts else ())] for row in self._rows}
        for (reference, others, wordings), answer in zip(prompts, answers, strict=True):
            self._set_row("own")
            first_TV = compute_answer_logits(self._model, self._tokenizer, reference, answer, self._token_id)
            for row, divergences in by_row.items():
                self._set_row(row)
                for divergence, other in zip(divergences, others, strict=True):
                    divergence.add(first_TV, compute_answer_logits(self._model, self._tokenizer, other, answer, self._token_id), wordings)
            self._tally.add(rows=1)
        seed, resamples = self._config.seed, self._config.resamples
        return {row: [divergence.estimate(seed, resamples) for divergence in divergences] for row, divergences in by_row.items()}

    def _measure_leak(self, row: str) -> Leak:
        self._set_row(row)
        prompts = make_leak_prompts(self._job.token)
        answers = answer_greedily(self._model, self._tokenizer, prompts, self._config.answer_tokens, self._tally)
        records = self._record_answers(row, "leak", prompts, answers)
        in_format = estimate_rate([each["in_format"] for each in records]) if self._job.in_format else None
        return Leak(words=estimate_rate([bool(each["leaked"]) for each in records]), format=in_format)

    def _record_answers(self, row: str, probe: str, prompts: Sequence[Sequence[Message]], answers: list[list[int]]) -> list[AnswerRecord]:
        words = self._config.leak_words or ()
        records: list[AnswerRecord] = [
            {
                "arm": self._arm,
                "row": row,
                "probe": probe,
                "prompt": messages[-1]["content"],
                "answer": text,
                "leaked": find_leaks(text, words),
                "in_format": parse_formatted_output(text, "json") is not None,
            }
            for messages, text in zip(prompts, decode_answers(self._tokenizer, answers), strict=True)
        ]
        self._answers += records
        return records
