"""What can be known to fail before the first artifact is written: a table of checks, each of which refuses one thing.

A run stops at the first that refuses something (``Run.check``); ``delia plan`` asks all of them.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

from delia_ray.core.errors import UserError
from delia_ray.core.mirrored_run import check_store
from delia_ray.core.records import TaskItem
from delia_ray.core.storage.paths import is_remote
from delia_ray.embedding.encoder import adopt_encoder
from delia_ray.evaluation.metrics.task_metrics import check_metrics, get_metric_names
from delia_ray.learned_metrics.stage import find_weight_files
from delia_ray.mixing.clean_stage import make_embedding_context
from delia_ray.models import ModelFolder, check_new_tokens, check_token_init, get_tokenizer
from delia_ray.models.control_tokens import ControlTokens
from delia_ray.models.families import embedding_rows, has_scaled_rope, max_context_tokens
from delia_ray.ray_runtime.resources import check_port
from delia_ray.settings import Settings
from delia_ray.synthesis.prompts import control_tokens
from delia_ray.synthesis.queries_stage import check_queries, find_source
from delia_ray.tasks.config import MessagesTask
from delia_ray.tasks.messages import check_all_answers_trained, check_no_control_tokens
from delia_ray.tasks.stage import build_task_items
from delia_ray.training.data.tokens import tokenize


def list_checks(settings: Settings, model: ModelFolder | None, *, serves: bool) -> list[Callable[[], object]]:
    """List the checks, in the order in which a run asks them; each raises a ``UserError`` where it refuses something.

    Args:
        model: None lists those that need no model.
        serves: whether an endpoint is going to be opened.
    """
    checks = [check.refuse for check in _CHECKS if (serves or not check.if_serving) and (model is not None or not check.needs_model)]
    given = _Given(settings, model)
    return [partial(check, given) for check in checks]


@dataclass
class _Given:
    """What is checked."""

    settings: Settings
    model: ModelFolder | None

    @property
    def folder(self) -> ModelFolder:
        assert self.model is not None, "the check needs a model"
        return self.model

    @cached_property
    def tokenizer(self) -> Any:
        return get_tokenizer(self.folder)

    @cached_property
    def control(self) -> ControlTokens:
        return control_tokens(self.tokenizer)

    @cached_property
    def items(self) -> dict[str, list[TaskItem]]:
        return build_task_items(self.settings.task)


def _check_new_token(given: _Given) -> None:
    task = given.settings.task
    check_new_tokens(given.tokenizer, [task.token] if task.token else [], task.token_init)
    if task.token:
        check_token_init(given.tokenizer, task.token_init, embedding_rows(given.folder.path))


def _check_all_answers(given: _Given) -> None:
    task = given.settings.task
    if isinstance(task, MessagesTask) and given.settings.finetune.train_on == "conversation":
        check_all_answers_trained(task)


def _check_rendered(tokenizer: Any, items: Mapping[str, Sequence[TaskItem]]) -> None:
    """Render and encode every row as it will be trained on or asked.

    Raises:
        UserError: the model's chat template refuses a row, or changes its answer.
    """
    for split, rows in items.items():
        for number, row in enumerate(rows, start=1):
            try:
                tokenize(tokenizer, [row], "answer")
            except UserError as error:
                raise UserError(f"task.{split} row {number}: {error}; change the row, or use a model whose template takes it") from None


def check_root(settings: Settings) -> None:
    """Refuse a folder of the run that could not be written; the verbs that write it find out by themselves.

    Raises:
        UserError: it is below a file, or in a folder that is not the user's.
    """
    if is_remote(settings.run.path):
        check_store(settings.run.root, "run.root")
    elif not _can_write(settings.run.path):
        raise UserError(f"run.root: cannot write {settings.run.path}; choose a folder you may write to (run.root=...)")


def _can_write(folder: Path) -> bool:
    there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)


def _check_cache(given: _Given) -> None:
    folder = given.settings.placement.cache
    if folder is not None and is_remote(folder):
        check_store(folder, "placement.cache")
    elif folder is not None and not _can_write(folder):
        raise UserError(f"placement.cache: {folder} is no folder that can be written; name one, or leave it to the run's own folder")


def _check_context(given: _Given) -> None:
    """Refuse rows and answers that are together longer than the model takes; a scaled rotary embedding is taken on trust."""
    from transformers import AutoConfig  # noqa: PLC0415  seconds to import

    config, length = AutoConfig.from_pretrained(given.folder.path, trust_remote_code=False), given.settings.max_model_len
    limit = max_context_tokens(config)
    if length > limit and not has_scaled_rope(config):
        finetune, answer = given.settings.finetune, length - given.settings.finetune.max_seq_len
        raise UserError(
            f"finetune.max_seq_len: rows of {finetune.max_seq_len} tokens and answers of {answer} (score.max_tokens) are longer than the "
            f"model's context of {limit}; lower one of them"
        )


def _check_deepspeed(given: _Given) -> None:
    settings = given.settings
    if not settings.placement.finetune.deepspeed:
        return
    import torch  # noqa: PLC0415  seconds, as DeepSpeed; only for who sets keys of it

    from delia_ray.training.deepspeed_settings import build_deepspeed_config  # noqa: PLC0415

    build_deepspeed_config(settings.finetune, settings.placement.finetune, torch.float32)


class _Check(NamedTuple):
    refuse: Callable[[_Given], object]
    needs_model: bool = False
    if_serving: bool = False


_CHECKS = (
    _Check(lambda given: given.control, needs_model=True),
    _Check(lambda given: given.items),
    _Check(_check_new_token, needs_model=True),
    _Check(_check_all_answers),
    _Check(
        lambda given: check_no_control_tokens((item for rows in given.items.values() for item in rows), given.control), needs_model=True
    ),
    _Check(lambda given: _check_rendered(given.tokenizer, given.items), needs_model=True),
    _Check(lambda given: check_metrics(given.settings.task, given.items[given.settings.score.split])),
    _Check(lambda given: find_weight_files(get_metric_names(given.settings.task), given.settings.learned_metrics)),
    _Check(lambda given: find_source(given.settings.synthesize, given.settings.synthesize.queries)),
    _Check(lambda given: check_queries(given.settings.synthesize, given.control), needs_model=True),
    _Check(lambda given: adopt_encoder(given.settings.synthesize.embeddings, given.folder, "synthesize.embeddings"), needs_model=True),
    _Check(lambda given: make_embedding_context(given.settings.deduplicate, given.folder, given.settings.placement), needs_model=True),
    _Check(_check_context, needs_model=True),
    _Check(_check_cache),
    _Check(_check_deepspeed),
    _Check(lambda given: check_port(given.settings.placement.serve), if_serving=True),
)
"""In the order in which a run asks them: what the model's template cannot render, before what depends on it."""
