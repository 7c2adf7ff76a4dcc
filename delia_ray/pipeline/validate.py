"""What can be known to fail before the first artifact is written."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from delia_ray.core.errors import UserError
from delia_ray.core.records import TaskItem
from delia_ray.embedding.encoder import adopt_encoder
from delia_ray.evaluation.metrics.task_metrics import check_metrics, get_metric_names
from delia_ray.learned_metrics.stage import find_weight_files
from delia_ray.mixing.clean_stage import make_embedding_context
from delia_ray.models import ModelFolder, check_new_tokens, check_token_init, get_tokenizer
from delia_ray.models.families import embedding_rows
from delia_ray.ray_runtime.resources import check_port
from delia_ray.settings import Settings
from delia_ray.synthesis.prompts import control_tokens
from delia_ray.synthesis.queries_stage import check_queries
from delia_ray.tasks.config import MessagesTask
from delia_ray.tasks.messages import check_all_answers_trained, check_no_control_tokens
from delia_ray.tasks.stage import build_task_items
from delia_ray.training.data.tokens import tokenize


def validate(settings: Settings, model: ModelFolder, *, serves: bool) -> None:
    """Refuse a run that would stop halfway.

    Args:
        serves: whether an endpoint is going to be opened.

    Raises:
        UserError: a row, a metric, a query, the encoder, DeepSpeed's settings or the port is not usable.
    """
    tokenizer = get_tokenizer(model)
    control = control_tokens(tokenizer)
    items = build_task_items(settings.task)
    check_new_tokens(tokenizer, [settings.task.token] if settings.task.token else [], settings.task.token_init)
    if settings.task.token:
        check_token_init(tokenizer, settings.task.token_init, embedding_rows(model.path))
    if isinstance(settings.task, MessagesTask) and settings.finetune.train_on == "conversation":
        check_all_answers_trained(settings.task)
    check_no_control_tokens((item for split in items.values() for item in split), control)
    _check_rendered(tokenizer, items)
    check_metrics(settings.task, items[settings.score.split])
    find_weight_files(get_metric_names(settings.task), settings.learned_metrics)
    check_queries(settings.synthesize, control)
    adopt_encoder(settings.synthesize.embeddings, model, "synthesize.embeddings")
    make_embedding_context(settings.deduplicate, model, settings.placement)
    _check_cache(settings.placement.cache)
    if settings.placement.finetune.deepspeed:
        _check_deepspeed(settings)
    if serves:
        check_port(settings.placement.serve)


def _check_cache(folder: Path | None) -> None:
    if folder is None:
        return
    there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"placement.cache: {folder} is no folder that can be written; name one, or leave it to the run's own folder")


def _check_deepspeed(settings: Settings) -> None:
    import torch  # noqa: PLC0415  seconds, as DeepSpeed; only for who sets keys of it

    from delia_ray.training.deepspeed_settings import build_deepspeed_config  # noqa: PLC0415

    build_deepspeed_config(settings.finetune, settings.placement.finetune, torch.float32)


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
