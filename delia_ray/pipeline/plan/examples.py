"""The task's training rows as each arm is trained on them: split, decontaminated, reworded and tokenized, without building an artifact."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, cast

import pyarrow.parquet as pq

from delia_ray.core.building import UnfinishedError, building_nothing
from delia_ray.core.errors import UserError
from delia_ray.core.records import Example, TaskItem
from delia_ray.models import ModelFolder, load_tokenizer, set_template_arguments, token_ids
from delia_ray.pipeline.plan.planned_run import PlannedRun
from delia_ray.rewriting.config import ModelRewrite, NoRewrite
from delia_ray.rewriting.forbidden import list_forbidden_words
from delia_ray.rewriting.stage import reword
from delia_ray.settings import Settings
from delia_ray.tasks.contamination import remove_contaminated
from delia_ray.tasks.stage import build_task_items
from delia_ray.training.config import FinetuneConfig
from delia_ray.training.data.tokens import TokenizedRow, tokenize

Wordings = Literal["rewritten", "original"]


@dataclass(frozen=True)
class TaskRows:
    """The task's rows after decontamination."""

    items: Mapping[str, Sequence[TaskItem]]
    """Split -> items."""
    removed: int
    """Training rows that overlap with what is scored."""

    @classmethod
    def build(cls, settings: Settings) -> "TaskRows":
        """Build the rows.

        Raises:
            UserError: a row is not usable, or none is left.
        """
        items = build_task_items(settings.task)
        if settings.decontaminate is None:
            return cls(items, 0)
        kept, rejects = remove_contaminated(items, settings.decontaminate)
        return cls({**items, "train": kept}, len(rejects))


@dataclass
class TrainingExamples:
    """The task's training rows under each kind of wording, as conversations and as tokens."""

    run: PlannedRun
    model: ModelFolder
    rows: TaskRows

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer of the base model, which knows the new token."""
        tokenizer: Any = load_tokenizer(self.model.path)
        set_template_arguments(tokenizer, dict(self.model.template_arguments))
        tokenizer.add_tokens(list(self.run.tokens), special_tokens=True)
        return tokenizer

    def tokenize(self, wordings: Wordings, config: FinetuneConfig) -> list[TokenizedRow]:
        """Tokenize the training rows as ``config`` trains on them.

        Raises:
            UserError: the chat template refuses a row, or there are too few wordings.
        """
        new_ids = token_ids(self.tokenizer, self.run.tokens)
        return tokenize(self.tokenizer, self.read(wordings), config.train_on, new_ids)

    def read(self, wordings: Wordings) -> Sequence[Example]:
        """The training rows under many wordings or under the task's own; where a model is still to write the wordings, under its own."""
        config = self.run.settings.rewrite_config
        if wordings == "rewritten" and isinstance(config, ModelRewrite):
            return self._read_finished() or self._reword(NoRewrite())
        return self._reword(config if wordings == "rewritten" and not isinstance(config, ModelRewrite) else NoRewrite())

    def _reword(self, config: Any) -> Sequence[Example]:
        items = {split: list(rows) for split, rows in self.rows.items.items()}
        task = self.run.settings.task
        return reword(config, items, task.token, list_forbidden_words(task))["train"]

    def _read_finished(self) -> Sequence[Example]:
        """The rows that a model has reworded; empty where they are not there."""
        try:
            with building_nothing():
                return cast(list[Example], pq.read_table(self.run.rewritten.fetch("train.parquet")).to_pylist())
        except (UnfinishedError, UserError):
            return []
