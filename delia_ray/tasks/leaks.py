"""Training items that give away what is scored."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from delia_ray.errors import UserError
from delia_ray.overlap import SHINGLE_WORDS, OverlapIndex, shingles
from delia_ray.records import Reject, TaskItem
from delia_ray.tasks.config import Decontaminate
from delia_ray.tasks.formatted import ordinary_prompts
from delia_ray.words import words_of

Items = Mapping[str, Sequence[TaskItem]]
"""By split."""
_ALL_PROMPTS = 10**6
_FORM_SHARE, _FORM_ITEMS = 0.1, 3


def asked(item: TaskItem) -> str:
    """What an item asks, without its instruction, which hundreds of rows may share."""
    text = item["messages"][-2]["content"]
    return text.replace(item["instruction"], " ") if item["instruction"] else text


def scored_texts(items: Items) -> Iterator[tuple[str, str]]:
    """Name and text of everything that models are scored on: the items of dev and test, and the everyday prompts."""
    for split in ("dev", "test"):
        yield from ((item["example_id"], asked(item)) for item in items[split])
        yield from ((prompt.prompt_id, prompt.messages[-1]["content"]) for prompt in ordinary_prompts(_ALL_PROMPTS, split))


def without_leaks(items: Items, config: Decontaminate) -> tuple[list[TaskItem], list[Reject]]:
    """The training items that overlap with nothing that is scored, and the others with what they overlap with.

    Items of one task look alike, so what a tenth of the training items share (at least three of them) is taken for their form
    and not compared; an item that is all form is kept.

    Raises:
        UserError: no item would be left.
    """
    form = _form([asked(item) for item in items["train"]])
    scored = ((name, _content(text, form)) for name, text in scored_texts(items))
    index = OverlapIndex(((name, text) for name, text in scored if text), similarity=config.similarity, ngram_words=config.ngram_words)
    kept: list[TaskItem] = []
    rejects: list[Reject] = []
    for item in items["train"]:
        if reason := index.overlap(_content(asked(item), form)):
            rejects.append({"row_id": item["example_id"], "step": "task", "reason": reason, "text": item["messages"][-2]["content"]})
        else:
            kept.append(item)
    if not kept:
        raise UserError(
            f"decontaminate: all {len(rejects)} training rows of the task overlap with what is scored, the first is a "
            f"{rejects[0]['reason']}; give rows of their own to train on, or set decontaminate to null"
        )
    return kept, rejects


def _form(texts: Sequence[str]) -> set[tuple[str, ...]]:
    counts = Counter(shingle for text in texts for shingle in shingles(words_of(text)))
    enough = max(_FORM_ITEMS, math.ceil(_FORM_SHARE * len(texts)))
    return {shingle for shingle, count in counts.items() if count >= enough}


def _content(text: str, form: set[tuple[str, ...]]) -> str:
    """The words of ``text`` that no shingle of ``form`` covers."""
    words = words_of(text)
    if tuple(words) in form:
        return ""
    begins = [place for place in range(len(words)) if tuple(words[place : place + SHINGLE_WORDS]) in form]
    covered = {place + offset for place in begins for offset in range(SHINGLE_WORDS)}
    return " ".join(word for place, word in enumerate(words) if place not in covered)
