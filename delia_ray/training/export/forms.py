"""Writing the forms of an exported model, and what transformers answers from each."""

import gc
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from delia_ray.core.config import Config
from delia_ray.core.records import Message
from delia_ray.core.storage.transfer import fetch, find_published, output_folder
from delia_ray.models import find_stop_token_ids, load_tokenizer, resolve_dtype, save_model, token_ids
from delia_ray.models.exported import ADAPTER, MERGED
from delia_ray.models.families import read_max_context_tokens
from delia_ray.placement import Quantization, Replicas
from delia_ray.training.export.greedy import ReferenceAnswer
from delia_ray.training.export.parity import ParityError
from delia_ray.training.export.prompts import Prompt, load_examples, select_prompts, select_rows

if TYPE_CHECKING:
    from delia_ray.training.new_token_embeddings import NewTokenEmbeddings

_MAX_LOSS_CHANGE_NATS = 0.01
"""How much merging may change the loss of a token, in float32; an embedding row merged at the wrong scale changes it ten times as much."""
_CONTEXT_TOKENS = 4096
"""Longest prompt and answer together in the comparison, unless the model's context is shorter; longer prompts are left out."""
_SPARE_TOKENS = 64
"""What vLLM's rendering of a prompt may have more, so that it is compared and not refused."""
_NOT_ASKED = "engines here load merged models; to compare it, remove this model's folder and export again with placement.serve.form=adapter"


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
    quantization: Quantization | None = None


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
    examples = load_examples(rewritten)
    rows = select_rows(tokenizer, examples[: request.parity_prompts], new_ids)
    context = min(_CONTEXT_TOKENS, read_max_context_tokens(fetch(base)))
    prompts = select_prompts(tokenizer, examples, request.parity_prompts, new_ids, context - request.parity_tokens)
    reference = _Reference(request, prompts, tokenizer, replicas, float32 if replicas.on_cpu else dtype, context)
    forms: list[Form] = []
    with output_folder(out):
        loaded = load_trained(base, trained, new_ids, float32)
        losses = trained_token_losses(loaded, rows)
        reason = explain_no_adapter(loaded)
        if reason is None:
            write_adapter(loaded, new_ids, out / ADAPTER)
            if replicas.prefers_adapters:
                forms.append(reference.answer(ADAPTER, loaded.model, base, out / ADAPTER, loaded.new_token_embeddings))
            else:
                reason = _NOT_ASKED
        del loaded
        gc.collect()  # the model's hooks keep it in a reference cycle, and the next model may take half of the memory
        merged = merge_trained(base, trained, new_ids, float32)
        _check_merged(losses, merged_token_losses(merged, rows), out)
        save_model(merged.to(dtype), tokenizer, out)
        forms.append(reference.answer(MERGED, merged, out))
    published = [replace(form, folder=find_published(form.folder), adapter=form.adapter and find_published(form.adapter)) for form in forms]
    return Exported(published, {} if reason is None else {ADAPTER: reason}, [prompt.messages for prompt in prompts])


@dataclass(frozen=True)
class _Reference:
    """Answers prompts with transformers."""

    request: ExportRequest
    prompts: Sequence[Prompt]
    tokenizer: Any
    replicas: Replicas
    dtype: Any
    """In bfloat16 transformers and vLLM may differ by rounding alone, so on a CPU they are compared in float32."""
    context: int
    """Longest prompt and answer together, in tokens."""

    def answer(
        self, name: str, model: Any, folder: Path, adapter: Path | None = None, new_token_embeddings: "NewTokenEmbeddings | None" = None
    ) -> Form:
        from delia_ray.training.export.greedy import generate_reference  # noqa: PLC0415  torch takes seconds to import

        on_gpu = not self.replicas.on_cpu and self.replicas.processes == 1  # a model that takes several GPUs is not divided here
        device = "cuda" if on_gpu else "cpu"
        if new_token_embeddings is not None:
            new_token_embeddings.to(device, self.dtype)
        stop_token_ids = find_stop_token_ids(self.tokenizer, model.generation_config.eos_token_id)
        prompts, tokens = [prompt.ids for prompt in self.prompts], self.request.parity_tokens
        references = generate_reference(model.to(device, self.dtype).eval(), self.tokenizer, prompts, tokens)
        max_model_len = min(self.context, max(map(len, prompts), default=0) + tokens + _SPARE_TOKENS)
        return Form(name, folder, str(self.dtype).removeprefix("torch."), max_model_len, references, stop_token_ids, adapter)


def _check_merged(trained: Sequence[float], merged: Sequence[float], out: Path) -> None:
    change = max((abs(a - b) for a, b in zip(trained, merged, strict=True)), key=lambda each: (math.isnan(each), each), default=0.0)
    if not change <= _MAX_LOSS_CHANGE_NATS:  # also where the weights diverged to NaN
        raise ParityError(f"merging changed the loss of a token by {change:.3f} nats, so {out} would not be the model that was trained")
