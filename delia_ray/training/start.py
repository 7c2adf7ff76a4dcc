"""The stage ``start``: the model to tune, with the task's new tokens in its vocabulary."""

import json
from collections.abc import Sequence
from pathlib import Path

from delia_ray.artifacts import CHAT_FORMAT, MODEL_KIND, Artifact, Counts, Provenance, Workspace, build_once
from delia_ray.config import Config
from delia_ray.models import ModelFolder, chat_format, extend, tokenizer_of
from delia_ray.tasks.config import TokenInit

STAGE = "start/4"


class StartRequest(Config):
    """What the start model adds to the adopted one."""

    tokens: tuple[str, ...]
    token_init: TokenInit
    vocabulary_multiple: int


def prepare_start(
    model: ModelFolder, tokens: Sequence[str], token_init: TokenInit, vocabulary_multiple: int, out: Path, provenance: Provenance
) -> Artifact:
    """Store the model that every arm starts from, and that is scored as ``base``.

    Raises:
        UserError: a token is in the vocabulary already.
    """

    def write(workspace: Workspace) -> Counts:
        extend(model.path, tokens, token_init, vocabulary_multiple, workspace.data, dict(model.template_arguments))
        (workspace.data / CHAT_FORMAT).write_text(json.dumps(chat_format(tokenizer_of(model)).facts(), indent=1) + "\n")
        return {"new_tokens": len(tokens)}

    request = StartRequest(tokens=tuple(tokens), token_init=token_init, vocabulary_multiple=vocabulary_multiple)
    return build_once(out, stage=STAGE, kind=MODEL_KIND, request=request, inputs={"model": model}, provenance=provenance, write=write)
