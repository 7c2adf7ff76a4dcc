"""Self-Instruct query source: the model continues numbered lists of tasks, starting from seed tasks (Wang et al., arXiv 2212.10560).

The prompt is a conversation in which the model has begun a numbered list of tasks. New tasks that are unlike all others are kept
and shown in later rounds. Completions are cached, so a rerun generates nothing again.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from importlib import resources
from itertools import count
from typing import Any

import pyarrow as pa
import ray.data

from delia_ray.core.artifacts import Counts, Workspace
from delia_ray.core.records import Message, keyed_int
from delia_ray.core.storage.tables import read_table
from delia_ray.core.text.rouge import find_most_similar, split_rouge_words
from delia_ray.core.text.words import count_words
from delia_ray.models import encode, find_stop_token_ids, get_tokenizer
from delia_ray.models.chat import render_prompt
from delia_ray.models.control_tokens import ControlTokens
from delia_ray.synthesis.config import SynthesizeConfig
from delia_ray.synthesis.context import GenerationContext, apply_filter, fingerprint_generator, generate_rows, report_counts
from delia_ray.synthesis.filtering.filters import reject_query
from delia_ray.synthesis.filtering.writers import FilteredRow, write_queries
from delia_ray.synthesis.prompts import control_tokens
from delia_ray.synthesis.query_config import SelfInstructQueries
from delia_ray.synthesis.requests import REQUEST_SCHEMA, GenerationRequest, new_request
from delia_ray.synthesis.sources.user_rows import UserRows, filter_queries
from delia_ray.synthesis.usage import GenerationCost

_INSTRUCTION = (
    "Come up with a list of {count} varied tasks for an assistant that reads and writes text. Number them, one task on each line."
)
_ITEM = re.compile(r"^[ \t]*\d+[.)\u3001\uff0e\uff09][ \t]*", re.MULTILINE)
_MIN_WORDS, _MAX_WORDS = 4, 150
_NOT_TEXT = re.compile(
    r"\b(images?|graphs?|pictures?|photos?|files?|maps?|draw|plots?|videos?|audio|music|flowcharts?|diagrams?)\b", re.IGNORECASE
)
"""What a text model cannot do; the list is the paper's."""
_KEPT_PER_PROMPT = 2
"""Lower than what most prompts yield. It sets the number of prompts in a portion; the tasks that are kept do not depend on it."""
_MAX_PORTION = 10_000
"""Maximum number of prompts and lists held at a time."""


@lru_cache(maxsize=1)
def load_built_in_seeds() -> tuple[str, ...]:
    """Load the forty built-in seed tasks."""
    return tuple(json.loads(resources.files("delia_ray.synthesis").joinpath("data", "seed_tasks.json").read_text(encoding="utf-8")))


def load_seed_tasks(rows: UserRows | None, control: ControlTokens, error_budget: float) -> list[str]:
    """Load the user's seed tasks, or the built-in ones.

    Raises:
        UserError: the user's rows are not usable.
    """
    if rows is None:
        return list(load_built_in_seeds())
    return [row["query"] for folder, row in filter_queries(rows, control, error_budget) if folder == "kept"]


def select_examples(settings: SelfInstructQueries, seeds: Sequence[str], grown: Sequence[str], prompt_id: str, seed: int) -> list[str]:
    """Select the seed tasks and the tasks of earlier rounds that a prompt shows, in an order that depends on the prompt's id."""
    later = _sample(grown, settings.grown_examples, prompt_id, seed)
    first = _sample(seeds, settings.seed_examples + settings.grown_examples - len(later), prompt_id, seed)
    return sorted([*first, *later], key=lambda task: keyed_int(seed, "order", f"{prompt_id}\0{task}"))


def _sample(tasks: Sequence[str], size: int, prompt_id: str, seed: int) -> list[str]:
    """Sample ``size`` different tasks, or all if there are fewer. The cost does not depend on the number of tasks."""
    if len(tasks) <= size:
        return list(tasks)
    indices: dict[int, None] = {}
    for attempt in count():
        if len(indices) == size:
            break
        indices[keyed_int(seed, "examples", f"{prompt_id}\0{attempt}") % len(tasks)] = None
    return [tasks[index] for index in indices]


def render_list_prompt(tokenizer: Any, shown: Sequence[str], new_tasks: int) -> str:
    """Render the conversation up to the number of the first new task."""
    turn: list[Message] = [{"role": "user", "content": _INSTRUCTION.format(count=len(shown) + new_tasks)}]
    items = "\n".join(f"{number}. {' '.join(task.split())}" for number, task in enumerate(shown, start=1))
    return f"{render_prompt(tokenizer, turn)}{items}\n{len(shown) + 1}."


def parse_tasks(text: str, finished: bool, limit: int) -> list[tuple[str, bool]]:
    """Parse a continued list into tasks, each with whether it is complete: the last one of a truncated list is not."""
    items = [" ".join(item.split()) for item in _ITEM.split(f"1. {text}")[1:]]
    tasks = [(item, finished or position < len(items)) for position, item in enumerate(items, start=1)]
    return [(item, is_complete) for item, is_complete in tasks if item][:limit]


class TaskPool:
    """Seeds and kept tasks. A task is added if it is unlike all of them."""

    def __init__(self, seeds: Iterable[str], max_similarity: float, control: ControlTokens):
        self._words = [split_rouge_words(seed) for seed in seeds]
        self._max_similarity = max_similarity
        self._control = control

    def add(self, task: str, is_complete: bool) -> str | None:
        """Add ``task`` and return None, or return the reason to reject it."""
        words = split_rouge_words(task)
        if reason := reject_query(task, is_complete, self._control):
            return reason
        if not _MIN_WORDS <= (length := count_words(words)) <= _MAX_WORDS:
            return "too short" if length < _MIN_WORDS else "too long"
        if _NOT_TEXT.search(task):
            return "not about text"
        if find_most_similar(words, self._words, self._max_similarity)[0] >= self._max_similarity:
            return "similar"
        self._words.append(words)
        return None


def iterate_prompt_ids(settings: SelfInstructQueries) -> Iterator[list[str]]:
    """Yield the ids of each round's prompts."""
    for number in range(settings.max_rounds):
        yield [f"self-{number:02d}-{position:07d}" for position in range(settings.first_prompts * 2**number)]


def generate_tasks(
    config: SynthesizeConfig, settings: SelfInstructQueries, seeds: Sequence[str], context: GenerationContext, workspace: Workspace
) -> Counts:
    """Generate up to ``settings.rows`` tasks. The result depends on ids and seeds alone; with more rows, the first ones stay.

    Memory holds the seeds and the kept tasks, which every new task is compared with, and one portion of lists.
    """
    context.connect()
    rounds = _Rounds(config, settings, seeds, context, workspace)
    counts = write_queries(rounds.run(), workspace.data)
    return report_counts({**counts, **rounds.tokens, "rounds": rounds.number, **rounds.cost.to_counts(context.price)}, "query", context)


@dataclass
class _Rounds:
    config: SynthesizeConfig
    settings: SelfInstructQueries
    seeds: Sequence[str]
    context: GenerationContext
    workspace: Workspace
    number: int = 0
    """Rounds so far."""
    tokens: Counter[str] = field(default_factory=Counter)
    """Of all lists, cached or generated now."""
    cost: GenerationCost = field(default_factory=GenerationCost)

    def run(self) -> Iterator[FilteredRow]:
        limit = self.settings.rows
        assert limit is not None, "the settings set the number of queries"
        tokenizer = get_tokenizer(self.context.model)
        pool = TaskPool(self.seeds, self.settings.max_similarity, control_tokens(tokenizer))
        grown: list[str] = []
        for prompt_ids in iterate_prompt_ids(self.settings):
            self.number += 1
            earlier = list(grown)
            while prompt_ids:
                portion = min(_MAX_PORTION, -(-(limit - len(grown)) // _KEPT_PER_PROMPT))
                requests = [self._build_request(tokenizer, prompt_id, earlier) for prompt_id in prompt_ids[:portion]]
                prompt_ids = prompt_ids[portion:]
                for row in self._generate_lists(requests):
                    for task_id, task, reason in _filter_tasks(row, self.settings.new_tasks, pool):
                        if reason:
                            yield "rejects", {"row_id": task_id, "step": "query", "reason": reason, "text": task}
                        else:
                            grown.append(task)
                            yield "kept", {"query_id": task_id, "topic": "", "query": task, "reference": None}
                            if len(grown) == limit:
                                return

    def _build_request(self, tokenizer: Any, prompt_id: str, grown: Sequence[str]) -> GenerationRequest:
        settings = self.settings
        shown = select_examples(settings, self.seeds, grown, prompt_id, self.config.seed)
        prompt = render_list_prompt(tokenizer, shown, settings.new_tasks)
        sampling = {
            "temperature": settings.temperature,
            "top_k": settings.top_k,
            "max_tokens": settings.max_tokens,
            "stop": [f"\n{len(shown) + settings.new_tasks + 1}."],
            "seed": keyed_int(self.config.seed, "query", prompt_id) % 2**31,
            "stop_token_ids": find_stop_token_ids(tokenizer, None),
        }
        generator = fingerprint_generator(self.config, self.context.model)
        return new_request(generator, prompt_id, prompt, encode(tokenizer, [prompt])[0].ids, sampling, topic="")

    def _generate_lists(self, requests: list[GenerationRequest]) -> list[dict[str, Any]]:
        """Generate the continued lists, in the order of their prompts' ids."""
        dataset = ray.data.from_arrow(pa.Table.from_pylist(requests, schema=REQUEST_SCHEMA))
        row_filter = partial(apply_filter, _accept, ControlTokens(()))
        folder, cost = generate_rows(self.config, dataset, row_filter, "query", self.context, self.workspace.inflight)
        rows = {row["row_id"]: row for row in read_table(folder).to_pylist()}
        self.cost += cost
        self.tokens.update({name: sum(row[name] for row in rows.values()) for name in ("prompt_tokens", "answer_tokens")})
        return [rows[prompt_id] for prompt_id in sorted(rows)]


def _accept(_text: str, _finished: bool, _control: ControlTokens) -> str | None:
    """Accept every list; only rows that the engine failed on are rejected before the list is parsed."""
    return None


def _filter_tasks(row: dict[str, Any], limit: int, pool: TaskPool) -> Iterator[tuple[str, str, str | None]]:
    """Yield the id, the text and the reason for rejection of each task in a list, and add the accepted tasks to ``pool``."""
    if row["reason"]:
        yield row["row_id"], row["text"], row["reason"]
        return
    tasks = parse_tasks(row["text"], row["finished"], limit)
    if not tasks:
        yield row["row_id"], row["text"], "empty"
    for position, (task, is_complete) in enumerate(tasks):
        yield f"{row['row_id']}-{position:02d}", task, pool.add(task, is_complete)
