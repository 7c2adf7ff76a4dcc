"""Tasks that grow from seeds (Self-Instruct, Wang et al., arXiv 2212.10560): what is shown, what is read, what is kept.

A model that follows instructions gets a conversation in which it has begun a numbered list of tasks, and continues the list.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from importlib import resources
from itertools import count
from typing import Any

from delia_ray.models.chat import prompt_text
from delia_ray.models.control_tokens import ControlTokens
from delia_ray.records import Message, keyed_int
from delia_ray.rouge import nearest, rouge_words
from delia_ray.synthesis.filters import refuse_query
from delia_ray.synthesis.query_config import SelfInstructQueries
from delia_ray.words import word_count

_ASK = "Come up with a list of {count} varied tasks for an assistant that reads and writes text. Number them, one task on each line."
_ITEM = re.compile(r"^[ \t]*\d+[.)\u3001\uff0e\uff09][ \t]*", re.MULTILINE)
_MIN_WORDS, _MAX_WORDS = 4, 150
_NOT_TEXT = re.compile(
    r"\b(images?|graphs?|pictures?|photos?|files?|maps?|draw|plots?|videos?|audio|music|flowcharts?|diagrams?)\b", re.IGNORECASE
)
"""What a model that only writes cannot do; the list is the paper's."""


@lru_cache(maxsize=1)
def built_in_seeds() -> tuple[str, ...]:
    """Forty tasks of many kinds."""
    return tuple(json.loads(resources.files("delia_ray.synthesis").joinpath("data", "seed_tasks.json").read_text(encoding="utf-8")))


def examples(asked: SelfInstructQueries, seeds: Sequence[str], grown: Sequence[str], prompt_id: str, seed: int) -> list[str]:
    """The tasks that the prompt of that name shows: of the seeds and of what grew in earlier rounds, in an order of its own."""
    later = _sample(grown, asked.grown_examples, prompt_id, seed)
    first = _sample(seeds, asked.seed_examples + asked.grown_examples - len(later), prompt_id, seed)
    return sorted([*first, *later], key=lambda task: keyed_int(seed, "order", f"{prompt_id}\0{task}"))


def _sample(tasks: Sequence[str], wanted: int, prompt_id: str, seed: int) -> list[str]:
    """``wanted`` different tasks, or all where there are fewer. The cost does not depend on how many there are."""
    if len(tasks) <= wanted:
        return list(tasks)
    chosen: dict[int, None] = {}
    for attempt in count():
        if len(chosen) == wanted:
            break
        chosen[keyed_int(seed, "examples", f"{prompt_id}\0{attempt}") % len(tasks)] = None
    return [tasks[place] for place in chosen]


def list_prompt(tokenizer: Any, shown: Sequence[str], new_tasks: int) -> str:
    """The rendered conversation up to the number of the first task that is to be written."""
    ask: list[Message] = [{"role": "user", "content": _ASK.format(count=len(shown) + new_tasks)}]
    begun = "\n".join(f"{number}. {' '.join(task.split())}" for number, task in enumerate(shown, start=1))
    return f"{prompt_text(tokenizer, ask)}{begun}\n{len(shown) + 1}."


def listed_tasks(text: str, finished: bool, limit: int) -> list[tuple[str, bool]]:
    """The tasks of a continued list, each with whether it is whole: the last one of a list that ran into its limit is not."""
    items = [" ".join(item.split()) for item in _ITEM.split(f"1. {text}")[1:]]
    whole = [(item, finished or place < len(items)) for place, item in enumerate(items, start=1)]
    return [(item, is_whole) for item, is_whole in whole if item][:limit]


class TaskPool:
    """Seeds and kept tasks. A task is admitted while it is unlike all of them."""

    def __init__(self, seeds: Iterable[str], max_similarity: float, control: ControlTokens):
        self._words = [rouge_words(seed) for seed in seeds]
        self._max_similarity = max_similarity
        self._control = control

    def refuse(self, task: str, whole: bool) -> str | None:
        """Why ``task`` is not admitted; None where it is, and then it narrows the pool for the next."""
        words = rouge_words(task)
        if reason := refuse_query(task, whole, self._control):
            return reason
        if not _MIN_WORDS <= (length := word_count(words)) <= _MAX_WORDS:
            return "too short" if length < _MIN_WORDS else "too long"
        if _NOT_TEXT.search(task):
            return "not about text"
        if nearest(words, self._words, self._max_similarity)[0] >= self._max_similarity:
            return "similar"
        self._words.append(words)
        return None


def prompt_ids(asked: SelfInstructQueries) -> Iterator[list[str]]:
    """The names of each round's prompts."""
    for number in range(asked.max_rounds):
        yield [f"self-{number:02d}-{place:07d}" for place in range(asked.first_prompts * 2**number)]
