"""What can be known to fail before the first artifact is written."""

from delia_ray.artifacts import Adopted
from delia_ray.embedding.encoder import adopt_encoder
from delia_ray.evaluation.task_metrics import check_metrics, metric_names
from delia_ray.judging.stage import judge_files
from delia_ray.mixing.clean import embedding_for
from delia_ray.models import load_tokenizer
from delia_ray.runtime import check_port
from delia_ray.settings import Settings
from delia_ray.synthesis.asking import check_queries
from delia_ray.synthesis.prompts import control_tokens
from delia_ray.tasks.messages import check_no_control_tokens
from delia_ray.tasks.stage import task_items


def check_usable(settings: Settings, model: Adopted, *, serves: bool) -> None:
    """Refuse a run that would stop halfway.

    Args:
        serves: whether an endpoint is going to be opened.

    Raises:
        UserError: a row, a metric, a query, the encoder or the port is not usable.
    """
    control = control_tokens(load_tokenizer(model.path))
    items = task_items(settings.task)
    check_no_control_tokens((item for split in items.values() for item in split), control)
    check_metrics(settings.task, items[settings.score.split])
    judge_files(metric_names(settings.task), settings.judges)
    check_queries(settings.synthesize, control)
    adopt_encoder(settings.synthesize.embeddings, model, "synthesize.embeddings")
    embedding_for(settings.deduplicate, model, settings.placement)
    if serves:
        check_port(settings.placement.serve)
