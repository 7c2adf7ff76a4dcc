"""Writing the forms of an exported model, and what transformers answers from each."""

import gc
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from delia_ray.core.config import Config
from delia_ray.core.records import Message
from delia_ray.core.storage.transfer import find_published, output_folder
from delia_ray.models import encode_prompt, find_stop_token_ids, load_tokenizer, resolve_dtype, save_model, token_ids
from delia_ray.models.exported import ADAPTER, MERGED
from delia_ray.models.families import max_context_tokens
from delia_ray.placement import Replicas
from delia_ray.training.export.greedy import ReferenceAnswer
from delia_ray.training.export.parity import ParityError
from delia_ray.training.export.prompts import MAX_TOKENS, select_conversations, select_rows

_MAX_LOSS_CHANGE_NATS = 0.01
"""How much merging may change the loss of a token, in float32; an embedding row merged at the wrong scale changes it ten times as much."""


class ExportRequest(Config):
    """Request of the stage ``model``: how the exported folder is built and checked."""

    new_tokens: tuple[str, ...]
    dtype: str
    """Precision of the exported weights, the run's."""
    parity_prompts: int = 32
    """Number of task prompts that transformers and vLLM answer."""
    parity_tokens: int = 32
    """Maximum length of these answers, in tokens."""


@dataclass(frozen=True)
class Form:
    """A form of an exported model, and what transformers answers from it."""

    name: str
    folder: Path
    """Model that an engine loads."""
    dtype: str
    max_model_len: int
    references: Sequence[ReferenceAnswer]
    stop_token_ids: Sequence[int]
    """What ends an answer in transformers."""
    adapter: Path | None = None
    """Over the model of ``folder``."""


@dataclass(frozen=True)
class Exported:
    """What was written, before vLLM has seen it."""

    forms: Sequence[Form]
    missing: Mapping[str, str]
    """Form -> why there is none."""
    conversations: Sequence[Sequence[Message]]
    """What the references are answers to."""


def export_forms(request: ExportRequest, base: Path, checkpoint: Path, rewritten: Path, out: Path, replicas: Replicas) -> Exported:
    """Write both forms, and answer prompts from each with transformers."""
    from delia_ray.training.export.adapter import explain_no_adapter, write_adapter  # noqa: PLC0415  torch takes seconds to import
    from delia_ray.training.model import load_trained, merge_trained  # noqa: PLC0415
    from delia_ray.training.objective import merged_token_losses, trained_token_losses  # noqa: PLC0415

    tokenizer, float32, dtype = load_tokenizer(base), resolve_dtype("float32"), resolve_dtype(request.dtype)
    new_ids, trained = token_ids(tokenizer, request.new_tokens), checkpoint / "trained"
    rows = select_rows(tokenizer, rewritten, request.parity_prompts, new_ids)
    conversations = select_conversations(tokenizer, rewritten, request.parity_prompts, new_ids)
    forms: list[Form] = []
    # In bfloat16 the two may differ by rounding alone, so on a CPU they are compared in float32.
    answer = partial(_answer, request, conversations, tokenizer, float32 if replicas.on_cpu else dtype, replicas)
    with output_folder(out):
        loaded = load_trained(base, trained, new_ids, float32)
        losses = trained_token_losses(loaded, rows)
        reason = explain_no_adapter(loaded)
        if reason is None:
            write_adapter(loaded, new_ids, out / ADAPTER)
            if replicas.prefers_adapters:
                forms.append(answer(ADAPTER, loaded.model, base, out / ADAPTER, loaded.new_token_embeddings))
            else:
                reason = "engines here load merged models; export again with placement.serve.form=adapter"
        del loaded
        gc.collect()  # the model's hooks keep it in a reference cycle, and the next model may take half of the memory
        merged = merge_trained(base, trained, new_ids, float32)
        _check_merged(losses, merged_token_losses(merged, rows), out)
        save_model(merged.to(dtype), tokenizer, out)
        forms.append(answer(MERGED, merged, out))
    published = [replace(form, folder=find_published(form.folder), adapter=form.adapter and find_published(form.adapter)) for form in forms]
    return Exported(published, {} if reason is None else {ADAPTER: reason}, conversations)


def _answer(
    request: ExportRequest,
    conversations: Sequence[Sequence[Message]],
    tokenizer: Any,
    dtype: Any,
    replicas: Replicas,
    name: str,
    model: Any,
    folder: Path,
    adapter: Path | None = None,
    new_token_embeddings: Any = None,
) -> Form:
    """Answer the conversations in a precision with transformers."""
    from delia_ray.training.export.greedy import generate_reference  # noqa: PLC0415  torch takes seconds to import

    device = "cuda" if not replicas.on_cpu and replicas.processes == 1 else "cpu"  # a model that takes several GPUs is not divided here
    if new_token_embeddings is not None:
        new_token_embeddings.to(device, dtype)
    max_model_len = min(MAX_TOKENS, max_context_tokens(model.config))
    prompts = [encode_prompt(tokenizer, messages) for messages in conversations]
    stop_token_ids = find_stop_token_ids(tokenizer, model.generation_config.eos_token_id)
    references = generate_reference(model.to(device, dtype).eval(), tokenizer, prompts, request.parity_tokens)
    return Form(name, folder, str(dtype).removeprefix("torch."), max_model_len, references, stop_token_ids, adapter)


def _check_merged(trained: Sequence[float], merged: Sequence[float], out: Path) -> None:
    change = max((abs(a - b) for a, b in zip(trained, merged, strict=True)), default=0.0)
    if change > _MAX_LOSS_CHANGE_NATS:
        raise ParityError(f"merging changed the loss of a token by {change:.3f} nats, so {out} would not be the model that was trained")
