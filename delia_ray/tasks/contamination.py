"""Decontamination: removal of training items that overlap with evaluation items."""

import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial

from delia_ray.core.errors import UserError
from delia_ray.core.records import Message, Reject, TaskItem, make_row_id
from delia_ray.core.text.overlap import SHINGLE_WORDS, OverlapIndex, shingles
from delia_ray.core.text.words import split_words
from delia_ray.tasks.config import Decontaminate
from delia_ray.tasks.format_task import load_ordinary_prompts

Items = Mapping[str, Sequence[TaskItem]]
"""Items by split."""
_ALL_PROMPTS = 10**6
_TEMPLATE_FRACTION, _MIN_TEMPLATE_ITEMS, _MIN_SHARED_ITEMS = 0.1, 3, 2


def extract_prompt_text(item: TaskItem) -> str:
    """Return the text of all turns before an item's answer, except the system turn, which diverse rows do not have.

    The item's instruction is removed, because hundreds of rows can share it.
    """
    return _remove_instruction(item, [turn["content"] for turn in item["messages"][:-1] if turn["role"] != "system"])


def iter_scored_texts(items: Items, text_of: Callable[[TaskItem], str] = extract_prompt_text) -> Iterator[tuple[str, str]]:
    """Yield id and text of everything that models are evaluated on: the dev and test items, and the everyday prompts."""
    for split in ("dev", "test"):
        yield from ((item["example_id"], text_of(item)) for item in items[split])
        yield from ((prompt.prompt_id, prompt.messages[-1]["content"]) for prompt in load_ordinary_prompts(_ALL_PROMPTS, split))


def remove_contaminated(items: Items, config: Decontaminate) -> tuple[list[TaskItem], list[Reject]]:
    """Split the training items into those that overlap with no evaluation text, and rejects with the overlap as reason.

    Items of one task look alike, so shingles that a tenth of the training items share (at least three items) count as their
    template and are not compared; an item that consists only of the template is kept. Whole conversations up to the answer are
    compared, because a short turn such as "Why?" has another meaning after other turns. A system turn that a tenth of all items
    share counts as one word.

    Raises:
        UserError: no item would be left.
    """
    get_text = partial(_format_conversation, _find_shared_system_turns(items))
    template = _find_template([get_text(item) for item in items["train"]])
    scored = ((name, _remove_template(text, template)) for name, text in iter_scored_texts(items, get_text))
    index = OverlapIndex(((name, text) for name, text in scored if text), similarity=config.similarity, ngram_words=config.ngram_words)
    kept: list[TaskItem] = []
    rejects: list[Reject] = []
    for item in items["train"]:
        if reason := index.find_overlap(_remove_template(get_text(item), template)):
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


def _format_conversation(shared: Collection[str], item: TaskItem) -> str:
    """Join the turns before the answer, without the item's instruction; a system turn of ``shared`` becomes one word."""
    turns = [
        _hash_system_turn(turn) if turn["content"] in shared and turn["role"] == "system" else turn["content"]
        for turn in item["messages"][:-1]
    ]
    return _remove_instruction(item, turns)


def _remove_instruction(item: TaskItem, turns: Sequence[str]) -> str:
    """Join ``turns`` and remove the item's instruction."""
    text = "\n".join(turns)
    return text.replace(item["instruction"], " ") if item["instruction"] else text


def _hash_system_turn(turn: Message) -> str:
    """Represent a system turn by one word."""
    return f"system_{make_row_id(turn['content'])}"


def _find_shared_system_turns(items: Items) -> set[str]:
    """Find the system turns that a tenth of all items share."""
    all_items = [item for split in items.values() for item in split]
    turns = Counter(turn["content"] for item in all_items for turn in item["messages"][:-1] if turn["role"] == "system")
    threshold = max(_MIN_SHARED_ITEMS, _TEMPLATE_FRACTION * len(all_items))
    return {text for text, count in turns.items() if count >= threshold}


def _find_template(texts: Sequence[str]) -> set[tuple[str, ...]]:
    """Find the shingles that a tenth of ``texts`` share."""
    counts = Counter(shingle for text in texts for shingle in shingles(split_words(text)))
    threshold = max(_MIN_TEMPLATE_ITEMS, math.ceil(_TEMPLATE_FRACTION * len(texts)))
    return {shingle for shingle, count in counts.items() if count >= threshold}


def _remove_template(text: str, template: set[tuple[str, ...]]) -> str:
    """Return the words of ``text`` that no shingle of ``template`` covers."""
    words = split_words(text)
    if tuple(words) in template:
        return ""
    starts = [index for index in range(len(words)) if tuple(words[index : index + SHINGLE_WORDS]) in template]
    covered = {index + offset for index in starts for offset in range(SHINGLE_WORDS)}
    return " ".join(word for index, word in enumerate(words) if index not in covered)
