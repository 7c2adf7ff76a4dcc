"""The stage ``base``: the base model with the task's new tokens added to its vocabulary, not trained yet."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from delia_ray.core.artifacts import CHAT_FORMAT, MODEL_KIND, Artifact, Counts, Provenance, Workspace, build_once
from delia_ray.core.config import Config
from delia_ray.core.storage.objects import sum_sizes
from delia_ray.models import ModelFolder, add_new_tokens, detect_chat_format, get_tokenizer
from delia_ray.tasks.config import TokenInit

STAGE = "base/1"
_MEMORY_FACTOR = 1.5
"""Memory to load a model as it is stored and to write it again, per byte of its weights."""
_LIBRARIES_BYTES = 2**30
OnWorker = Callable[..., None]
"""Calls a function with its arguments somewhere, after the bytes of memory that it takes."""


def _call_here(function: Callable[..., None], _memory_bytes: int, *args: object) -> None:
    function(*args)


class BaseModelRequest(Config):
    """Request of the stage ``base``: the new tokens, how their embeddings are initialized, and the padding of the vocabulary."""

    tokens: tuple[str, ...]
    token_init: TokenInit
    vocabulary_multiple: int


def prepare_base(
    model: ModelFolder,
    tokens: Sequence[str],
    token_init: TokenInit,
    vocabulary_multiple: int,
    out: Path,
    provenance: Provenance,
    run: OnWorker = _call_here,
) -> Artifact:
    """Add ``tokens`` to ``model`` and store the result at ``out``: every arm starts from it, and it is scored as the arm ``base``.

    Args:
        run: runs the function that loads the model where there is memory for it.

    Raises:
        UserError: a token is in the vocabulary already.
    """

    def write(workspace: Workspace) -> Counts:
        memory = int(_MEMORY_FACTOR * sum_sizes(model.path, "*.safetensors")) + _LIBRARIES_BYTES
        arguments = dict(model.template_arguments)
        run(add_new_tokens, memory, model.path, tokens, token_init, vocabulary_multiple, workspace.data, arguments)
        (workspace.data / CHAT_FORMAT).write_text(json.dumps(detect_chat_format(get_tokenizer(model)).describe(), indent=1) + "\n")
        return {"new_tokens": len(tokens)}

    request = BaseModelRequest(tokens=tuple(tokens), token_init=token_init, vocabulary_multiple=vocabulary_multiple)
    return build_once(out, stage=STAGE, kind=MODEL_KIND, request=request, inputs={"model": model}, provenance=provenance, write=write)
