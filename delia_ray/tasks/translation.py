"""Translation task: items from parallel texts, in splits with disjoint documents."""

from collections.abc import Sequence

from delia_ray.core.errors import UserError
from delia_ray.core.records import TaskItem, keyed_int, make_row_id
from delia_ray.core.text.words import count_whitespace_words
from delia_ray.tasks.config import TranslationTask
from delia_ray.tasks.parallel_text import TranslationPair, read_pairs


def build_translation_items(task: TranslationTask) -> dict[str, list[TaskItem]]:
    """Build ``train``, ``dev`` and ``test`` items.

    The documents of ``task.pairs`` are shuffled by ``task.seed`` and assigned to the test split first, then to dev. Training pairs are
    sampled one by one from the remaining documents. So the test items do not depend on N, and no document is in both the training and
    the test split.

    Raises:
        UserError: the pairs cannot be read, or a split needs more pairs than there are.
    """
    remaining = _shuffle_documents(_filter_by_length(task, read_pairs(task.pairs, "task.pairs")), task.seed)
    items: dict[str, list[TaskItem]] = {}
    for split, split_source, count in (
        ("test", task.test_pairs, task.test),
        ("dev", task.dev_pairs, task.dev),
        ("train", None, task.train),
    ):
        if split_source is None:
            assert count is not None, "the config allows null only with test_pairs"
            chosen, remaining = _take_pairs(_shuffle_pairs(remaining, task.seed) if split == "train" else remaining, count)
            available = f"task.pairs has {len(chosen)} left for it"
        else:
            pairs = _filter_by_length(task, read_pairs(split_source, f"task.{split}_pairs"))
            chosen = pairs if count is None else _take_pairs(_shuffle_documents(pairs, task.seed), count)[0]
            available = f"task.{split}_pairs has {len(pairs)}"
        if count is not None and len(chosen) < count:
            limit = "" if task.max_words is None else f" of at most task.max_words={task.max_words} words"
            raise UserError(f"task.{split}: {count} pairs are required, and {available}{limit}; ask for fewer, or give more pairs")
        items[split] = [_build_item(task, split, pair) for pair in chosen]
    return {split: items[split] for split in ("train", "dev", "test")}


def _filter_by_length(task: TranslationTask, pairs: Sequence[TranslationPair]) -> list[TranslationPair]:
    """Keep the pairs of at most ``task.max_words`` words on both sides."""
    limit = task.max_words
    return [
        pair for pair in pairs if limit is None or max(count_whitespace_words(pair.source), count_whitespace_words(pair.target)) <= limit
    ]


def _shuffle_documents(pairs: Sequence[TranslationPair], seed: int) -> list[TranslationPair]:
    """Shuffle the documents by ``seed`` and id; the pairs of a document stay together, in order."""
    return sorted(pairs, key=lambda pair: (keyed_int(seed, "documents", pair.document), pair.document, pair.number))


def _shuffle_pairs(pairs: Sequence[TranslationPair], seed: int) -> list[TranslationPair]:
    """Shuffle the pairs independently of their documents."""
    return sorted(pairs, key=lambda pair: keyed_int(seed, "pairs", f"{pair.document} {pair.number}"))


def _take_pairs(pairs: Sequence[TranslationPair], count: int) -> tuple[list[TranslationPair], list[TranslationPair]]:
    """Return the first ``count`` pairs, and the pairs of all other documents; the rest of a document that was begun is dropped."""
    chosen = list(pairs[:count])
    used = {pair.document for pair in chosen}
    return chosen, [pair for pair in pairs[count:] if pair.document not in used]


def extract_source_text(prompt: str) -> str:
    """Extract the text to translate from a prompt: everything after the paragraph with the instruction."""
    return prompt.partition("\n\n")[2]


def _build_item(task: TranslationTask, split: str, pair: TranslationPair) -> TaskItem:
    return {
        "example_id": make_row_id("translation", split, str(pair.number), pair.source, pair.target),
        "group": "task",
        "messages": [
            {"role": "user", "content": f"{task.resolved_instruction}\n\n{pair.source}"},
            {"role": "assistant", "content": pair.target},
        ],
        "label": None,
        "instruction": task.resolved_instruction,
        "document": pair.document,
    }
