"""Training items that give away what is scored."""

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial

from delia_ray.errors import UserError
from delia_ray.overlap import SHINGLE_WORDS, OverlapIndex, shingles
from delia_ray.records import Message, Reject, TaskItem, row_id
from delia_ray.tasks.config import Decontaminate
from delia_ray.tasks.formatted import ordinary_prompts
from delia_ray.words import words_of

Items = Mapping[str, Sequence[TaskItem]]
"""By split."""
_ALL_PROMPTS = 10**6
_FORM_SHARE, _FORM_ITEMS, _SHARED_ITEMS = 0.1, 3, 2


def asked(item: TaskItem) -> str:
    """All turns that lead to an item's answer but the system's: what may stand in a row that has no system turn.

    It comes without the item's instruction, which hundreds of rows may share.
    """
    return _without_instruction(item, [turn["content"] for turn in item["messages"][:-1] if turn["role"] != "system"])


def scored_texts(items: Items, text_of: Callable[[TaskItem], str] = asked) -> Iterator[tuple[str, str]]:
    """Name and text of everything that models are scored on: the items of dev and test, and the everyday prompts."""
    for split in ("dev", "test"):
        yield from ((item["example_id"], text_of(item)) for item in items[split])
        yield from ((prompt.prompt_id, prompt.messages[-1]["content"]) for prompt in ordinary_prompts(_ALL_PROMPTS, split))


def without_leaks(items: Items, config: Decontaminate) -> tuple[list[TaskItem], list[Reject]]:
    """The training items that overlap with nothing that is scored, and the others with what they overlap with.

    Items of one task look alike, so what a tenth of the training items share (at least three of them) is taken for their form
    and not compared; an item that is all form is kept. Whole conversations are compared, up to the answer: "Why?" asks another
    thing after another answer. A system turn that a tenth of all items share is one word of them.

    Raises:
        UserError: no item would be left.
    """
    conversation = partial(_conversation, _shared_system_turns(items))
    form = _form([conversation(item) for item in items["train"]])
    scored = ((name, _content(text, form)) for name, text in scored_texts(items, conversation))
    index = OverlapIndex(((name, text) for name, text in scored if text), similarity=config.similarity, ngram_words=config.ngram_words)
    kept: list[TaskItem] = []
    rejects: list[Reject] = []
    for item in items["train"]:
        if reason := index.overlap(_content(conversation(item), form)):
            text = "\n".join(turn["content"] for turn in item["messages"][:-1])
            rejects.append({"row_id": item["example_id"], "step": "task", "reason": reason, "text": text})
        else:
            kept.append(item)
    if not kept:
        raise UserError(
            f"decontaminate: all {len(rejects)} training rows of the task overlap with what is scored, the first is a "
            f"{rejects[0]['reason']}; give rows of their own to train on, or set decontaminate to null"
        )
    return kept, rejects


def _conversation(shared: Collection[str], item: TaskItem) -> str:
    """All that the model is shown before it answers, without the item's instruction."""
    turns = [
        _system_word(turn) if turn["content"] in shared and turn["role"] == "system" else turn["content"] for turn in item["messages"][:-1]
    ]
    return _without_instruction(item, turns)


def _without_instruction(item: TaskItem, turns: Sequence[str]) -> str:
    text = "\n".join(turns)
    return text.replace(item["instruction"], " ") if item["instruction"] else text


def _system_word(turn: Message) -> str:
    return f"system_{row_id(turn['content'])}"


def _shared_system_turns(items: Items) -> set[str]:
    everything = [item for split in items.values() for item in split]
    turns = Counter(turn["content"] for item in everything for turn in item["messages"][:-1] if turn["role"] == "system")
    enough = max(_SHARED_ITEMS, _FORM_SHARE * len(everything))
    return {text for text, count in turns.items() if count >= enough}


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
