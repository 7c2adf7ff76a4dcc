"""Translation: pairs of texts as items, in splits that share no document."""

from collections.abc import Sequence

from delia_ray.errors import UserError
from delia_ray.records import TaskItem, keyed_int, row_id
from delia_ray.tasks.config import TranslationTask
from delia_ray.tasks.parallel import Pair, read_pairs
from delia_ray.words import spaced_count


def translation_items(task: TranslationTask) -> dict[str, list[TaskItem]]:
    """``train``, ``dev`` and ``test`` items.

    The documents of ``task.pairs`` are shuffled by ``task.seed`` and dealt out: to the test split first, then to dev. Training pairs
    are drawn one by one from the documents that are left. So the test items are the same whatever N is, and no document is both
    learnt from and tested on.

    Raises:
        UserError: the pairs cannot be read, or a split asks for more than there are.
    """
    shuffled = _shuffled(_usable(task, read_pairs(task.pairs, "task.pairs")), task.seed)
    items: dict[str, list[TaskItem]] = {}
    for split, own, wanted in (("test", task.test_pairs, task.test), ("dev", task.dev_pairs, task.dev), ("train", None, task.train)):
        if own is None:
            assert wanted is not None, "the config lets null stand for all of test_pairs only"
            chosen, shuffled = _deal(_apart(shuffled, task.seed) if split == "train" else shuffled, wanted)
            there = f"task.pairs has {len(chosen)} left for it"
        else:
            pairs = _usable(task, read_pairs(own, f"task.{split}_pairs"))
            chosen = pairs if wanted is None else _deal(_shuffled(pairs, task.seed), wanted)[0]
            there = f"task.{split}_pairs has {len(pairs)}"
        if wanted is not None and len(chosen) < wanted:
            limit = "" if task.max_words is None else f" of at most task.max_words={task.max_words} words"
            raise UserError(f"task.{split}: {wanted} pairs are asked for, and {there}{limit}; ask for fewer, or give more pairs")
        items[split] = [_item(task, split, pair) for pair in chosen]
    return {split: items[split] for split in ("train", "dev", "test")}


def _usable(task: TranslationTask, pairs: Sequence[Pair]) -> list[Pair]:
    most = task.max_words
    return [pair for pair in pairs if most is None or max(spaced_count(pair.source), spaced_count(pair.target)) <= most]


def _shuffled(pairs: Sequence[Pair], seed: int) -> list[Pair]:
    """Documents in an order that only ``seed`` and their names decide; the pairs of one stay together and in their order."""
    return sorted(pairs, key=lambda pair: (keyed_int(seed, "documents", pair.document), pair.document, pair.number))


def _apart(pairs: Sequence[Pair], seed: int) -> list[Pair]:
    """Pairs in an order of their own, whatever document they are from."""
    return sorted(pairs, key=lambda pair: keyed_int(seed, "pairs", f"{pair.document} {pair.number}"))


def _deal(pairs: Sequence[Pair], wanted: int) -> tuple[list[Pair], list[Pair]]:
    """The first ``wanted`` pairs, and those of the documents after theirs; the rest of the last document goes to neither."""
    chosen = list(pairs[:wanted])
    begun = {pair.document for pair in chosen}
    return chosen, [pair for pair in pairs[wanted:] if pair.document not in begun]


def source_text(prompt: str) -> str:
    """The text to translate, from a prompt under any wording: all after the paragraph that asks."""
    return prompt.partition("\n\n")[2]


def _item(task: TranslationTask, split: str, pair: Pair) -> TaskItem:
    return {
        "example_id": row_id("translation", split, str(pair.number), pair.source, pair.target),
        "group": "task",
        "messages": [{"role": "user", "content": f"{task.asked}\n\n{pair.source}"}, {"role": "assistant", "content": pair.target}],
        "label": None,
        "instruction": task.asked,
        "document": pair.document,
    }
