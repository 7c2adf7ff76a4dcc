"""What no wording of a task's instruction may say, since only the new token is to carry it."""

from typing import assert_never

from delia_ray.rewriting.gate import SHAPE_WORDS
from delia_ray.tasks.config import FormatTask, MessagesTask, TaskConfig, TranslationTask
from delia_ray.tasks.formatted import LABEL_WORDS


def forbidden_words(task: TaskConfig) -> tuple[str, ...]:
    """Words that would give the token's meaning away; none where no token asks."""
    match task:
        case FormatTask():
            return (*SHAPE_WORDS, *LABEL_WORDS)
        case TranslationTask(token=token):
            return () if token is None else ("translate", "translation", "language", task.source_language, task.target_language)
        case MessagesTask():
            return ()
        case _:
            assert_never(task)
