"""Words that no wording of a task's instruction may contain, since the new token alone must carry their meaning."""

from typing import assert_never

from delia_ray.rewriting.wording_filter import SHAPE_WORDS
from delia_ray.tasks.config import FormatTask, MessagesTask, TaskConfig, TranslationTask
from delia_ray.tasks.format_task import LABEL_WORDS


def list_forbidden_words(task: TaskConfig) -> tuple[str, ...]:
    """List the words that would leak the meaning of the task's token; none for a task without one."""
    match task:
        case FormatTask():
            return (*SHAPE_WORDS, *LABEL_WORDS)
        case TranslationTask(token=token):
            return () if token is None else ("translate", "translation", "language", task.source_language, task.target_language)
        case MessagesTask():
            return ()
        case _:
            assert_never(task)
