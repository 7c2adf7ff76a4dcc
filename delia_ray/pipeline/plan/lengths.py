"""Lengths of an arm's rows in tokens: those of the task are counted, those of diverse rows are bounded before they are generated."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from delia_ray.core.errors import UserError
from delia_ray.core.records import Example
from delia_ray.settings import Settings
from delia_ray.synthesis.query_config import BlendQueries, MagpieQueries, Queries, SelfInstructQueries
from delia_ray.training.config import FinetuneConfig
from delia_ray.training.data.tokens import TokenizedRow, tokenize


@dataclass(frozen=True)
class Bounds:
    """The least and the most that a number can be."""

    low: int
    high: int


@dataclass(frozen=True)
class RowLengths:
    """Lengths of the rows that an arm is trained on."""

    task_tokens: Sequence[int]
    """Of each training row of the task."""
    task_share: float
    """Largest share of supervised tokens in a row of the task."""
    diverse: Bounds
    """Of one diverse row."""
    diverse_share: float
    """Largest share of supervised tokens in a diverse row."""

    def bound_tokens(self, task_rows: int, diverse_rows: int, seen_rows: int) -> Bounds:
        """Bound the tokens of ``seen_rows`` rows, drawn evenly from an arm's mixture."""
        task = task_rows * sum(self.task_tokens) / len(self.task_tokens)
        passes = seen_rows / (task_rows + diverse_rows)
        return Bounds(*(round(passes * (task + diverse_rows * each)) for each in (self.diverse.low, self.diverse.high)))

    def longest(self, *, with_task: bool, with_diverse: bool) -> int:
        """The longest row that there can be."""
        return max([*(self.task_tokens if with_task else ()), *([self.diverse.high] if with_diverse else ())])

    def largest_share(self, *, with_task: bool, with_diverse: bool) -> float:
        """The largest share of supervised tokens that a row can have."""
        return max([*([self.task_share] if with_task else ()), *([self.diverse_share] if with_diverse else ())])


def measure_lengths(tokenizer: Any, rows: Sequence[TokenizedRow], settings: Settings, pool: str, config: FinetuneConfig) -> RowLengths:
    """Measure the rows of an arm.

    Args:
        tokenizer: of the base model, with the new tokens.
        rows: the task's training rows, as the arm is trained on them.
        pool: the arm's pool.

    Raises:
        UserError: a row is longer than ``finetune.max_seq_len``, and longer rows are refused.
    """
    _check_longest(rows, config)
    limit = config.max_seq_len
    lengths = [min(len(row.ids), limit) for row in rows]
    synthesize = settings.resolve_synthesize(pool, 1)
    short = tokenize(tokenizer, [_SHORTEST], config.train_on)[0]
    overhead = len(short.ids) - 2
    query, answer = _bound_query_tokens(synthesize.queries), synthesize.sampling.max_tokens
    longest = limit if query is None or synthesize.mode == "foreign" else min(limit, overhead + query + answer)
    share = (answer + 1) / (len(short.ids) - 1 + answer) if config.train_on == "answer" else 1.0
    return RowLengths(
        lengths, max(row.supervised_tokens / len(row.ids) for row in rows), Bounds(min(len(short.ids), limit), longest), share
    )


_SHORTEST: Example = {
    "example_id": "",
    "group": "diverse",
    "messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "a"}],
    "label": None,
}
"""A query of one token and an answer of one."""


def _check_longest(rows: Sequence[TokenizedRow], config: FinetuneConfig) -> None:
    long_rows = [(number, len(row.ids)) for number, row in enumerate(rows, start=1) if len(row.ids) > config.max_seq_len]
    if long_rows and config.long_rows == "refuse":
        (number, tokens), more = long_rows[0], f" ({len(long_rows) - 1} more are too long)" if len(long_rows) > 1 else ""
        raise UserError(
            f"task.train row {number} has {tokens} tokens, more than finetune.max_seq_len={config.max_seq_len}{more}; raise it, shorten "
            "the row, or set finetune.long_rows to truncate or drop"
        )


def _bound_query_tokens(queries: Queries) -> int | None:
    """Longest query, in tokens; None where the user's own rows have no limit."""
    match queries:
        case MagpieQueries(max_tokens=tokens) | SelfInstructQueries(max_tokens=tokens):
            return tokens
        case BlendQueries(sources=sources):
            limits = [_bound_query_tokens(part.source) for part in sources]
            known = [limit for limit in limits if limit is not None]
            return max(known) if len(known) == len(limits) else None
        case _:
            return None
