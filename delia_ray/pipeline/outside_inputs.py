"""The inputs of each step that no step made, as they are now: files and models, by the hash of their content."""

from collections.abc import Mapping

from delia_ray.core.artifacts import Input
from delia_ray.core.layout import DEFAULT_POOL
from delia_ray.evaluation.stage import collect_metric_inputs
from delia_ray.lm_eval.stage import adopt_task_folder
from delia_ray.models import adopt_model
from delia_ray.probing.gradients.rows import adopt_foreign
from delia_ray.settings import Settings
from delia_ray.synthesis.queries_stage import find_source
from delia_ray.tasks.stage import adopt_files


def task_files(settings: Settings, _name: str) -> Mapping[str, Input]:
    """The files of the task's rows."""
    return adopt_files(settings.task)


def model(settings: Settings, _name: str) -> Mapping[str, Input]:
    """The model to tune."""
    return {"model": adopt_model(settings.model, template_arguments=settings.chat_template_kwargs)}


def queries(settings: Settings, pool: str) -> Mapping[str, Input]:
    """The model, and the files or seeds that queries come from."""
    config = settings.pools[pool] if pool not in ("", DEFAULT_POOL) else settings.synthesize
    return {**model(settings, pool), **find_source(config, config.queries).inputs}


def metric_files(settings: Settings, _arm: str) -> Mapping[str, Input]:
    """Schemas, metrics of the user's own, and weights of learned metrics."""
    return collect_metric_inputs(settings.task, settings.learned_metrics)


def lm_eval_tasks(settings: Settings, _arm: str) -> Mapping[str, Input]:
    """The folder of the user's own lm-eval tasks."""
    return {} if settings.lm_eval.include is None else {"include": adopt_task_folder(settings.lm_eval.include)}


def foreign_answers(settings: Settings, _name: str) -> Mapping[str, Input]:
    """The file of foreign answers."""
    return {} if settings.probe.foreign is None else {"foreign": adopt_foreign(settings.probe.foreign)}
