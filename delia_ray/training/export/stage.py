"""The stage ``model``: merge a checkpoint into the base model, save a Hugging Face model folder, and check it in transformers and vLLM."""

import gc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import ray

from delia_ray.core.artifacts import MODEL_KIND, Artifact, Counts, Provenance, Workspace, build_once
from delia_ray.core.config import Config
from delia_ray.core.errors import UserError
from delia_ray.core.records import Example
from delia_ray.core.storage.transfer import fetch, output_folder
from delia_ray.models import encode_prompt, load_tokenizer, resolve_dtype, save_model, token_ids
from delia_ray.models.families import max_context_tokens
from delia_ray.placement import Engine, Replicas
from delia_ray.ray_runtime.capacity import demand_of_one
from delia_ray.ray_runtime.cluster import Connect
from delia_ray.ray_runtime.tasks import get_result
from delia_ray.ray_runtime.vllm_arguments import build_engine_kwargs
from delia_ray.training.data.tokens import TokenizedRow, tokenize
from delia_ray.training.export.parity import Parity, compare_greedy_answers

STAGE = "model/2"
_MAX_TOKENS = 1024
"""Longest prompt and answer together in the parity check, unless the model's context is shorter."""
_COMPARED_ROWS = 4
_MAX_LOSS_CHANGE_NATS = 0.01
"""How much merging may change the loss of a token, in float32; an embedding row merged at the wrong scale changes it ten times as much."""


class ExportRequest(Config):
    """Request of the stage ``model``: how the exported folder is built and checked."""

    new_tokens: tuple[str, ...]
    dtype: str
    """Precision of the exported weights, the run's."""
    parity_prompts: int = 16
    """Number of task prompts that transformers and vLLM answer."""
    parity_tokens: int = 32
    """Maximum length of these answers, in tokens."""


class ParityError(RuntimeError):
    """The exported model is not the model that was trained, or answers differently in transformers and in vLLM."""


def export(
    request: ExportRequest,
    base: Artifact,
    checkpoint: Artifact,
    rewritten: Artifact,
    engine: Engine,
    replicas: Replicas,
    connect: Connect,
    card: str,
    out: Path,
    provenance: Provenance,
) -> Artifact:
    """Merge the checkpoint into the base model, save it to ``out``, and check it in transformers and vLLM.

    Args:
        card: the model card's text.

    Raises:
        UserError: the checkpoint was trained from another model.
        ParityError: merging changed the loss of a token, or transformers and vLLM differ on a prompt, by more than rounding.
    """
    _check_base(base, checkpoint)

    def write(workspace: Workspace) -> Counts:
        connect(demand_of_one(replicas.num_cpus, replicas.total_gpus, "placement.serve"))
        # The process ends with the task (max_calls), so that two models and an engine do not stay in memory.
        task = ray.remote(num_cpus=replicas.num_cpus, num_gpus=replicas.total_gpus, max_calls=1)(_merge_and_check)
        folders = (base.data, checkpoint.data, rewritten.data, workspace.data)
        parity: Parity = get_result(task.remote(request, *folders, engine, replicas))
        _check_parity(parity, request)
        (workspace.data / "README.md").write_text(card)
        return {"parity_equal": parity.equal, "parity_ties": parity.ties}

    inputs = {"base": base, "checkpoint": checkpoint}
    return build_once(out, stage=STAGE, kind=MODEL_KIND, request=request, inputs=inputs, provenance=provenance, write=write)


def _check_base(base: Artifact, checkpoint: Artifact) -> None:
    if checkpoint.manifest.inputs["base"] != base.fingerprint:
        raise UserError(
            f"{checkpoint.path} was trained from another model than {base.path}; export it with the one it was trained from, "
            f"or remove {checkpoint.path} to train again"
        )


def _check_parity(parity: Parity, request: ExportRequest) -> None:
    if parity.different:
        raise ParityError(f"{len(parity.different)} of {request.parity_prompts} prompts: {parity.different[0]}")


def _merge_and_check(
    request: ExportRequest, base: Path, checkpoint: Path, rewritten: Path, out: Path, engine: Engine, replicas: Replicas
) -> Parity:
    from delia_ray.training.model import load_trained, merge_trained  # noqa: PLC0415  torch takes seconds to import
    from delia_ray.training.objective import merged_token_losses, trained_token_losses  # noqa: PLC0415

    tokenizer, float32 = load_tokenizer(base), resolve_dtype("float32")
    new_ids, trained = token_ids(tokenizer, request.new_tokens), checkpoint / "trained"
    rows = _select_rows(tokenizer, rewritten, request, new_ids)
    losses = trained_token_losses(load_trained(base, trained, new_ids, float32), rows)
    gc.collect()  # the model's hooks keep it in a reference cycle, and the next model may take half of the memory
    merged = merge_trained(base, trained, new_ids, float32)
    change = max((abs(a - b) for a, b in zip(losses, merged_token_losses(merged, rows), strict=True)), default=0.0)
    if change > _MAX_LOSS_CHANGE_NATS:
        raise ParityError(f"merging changed the loss of a token by {change:.3f} nats, so {out} would not be the model that was trained")
    dtype = resolve_dtype(request.dtype)
    prompts = _select_prompts(tokenizer, rewritten, request.parity_prompts)
    with output_folder(out):
        save_model(merged.to(dtype), tokenizer, out)
        max_model_len = min(_MAX_TOKENS, max_context_tokens(merged.config))
        del merged
        # In bfloat16 the two may differ by rounding alone, so on a CPU they are compared in float32.
        compared_dtype = float32 if replicas.on_cpu else dtype
        kwargs = build_engine_kwargs(engine, str(compared_dtype).removeprefix("torch."), max_model_len, replicas)
        return compare_greedy_answers(out, prompts, request.parity_tokens, compared_dtype, kwargs)


def _select_rows(tokenizer: Any, rewritten: Path, request: ExportRequest, new_ids: Sequence[int]) -> list[TokenizedRow]:
    """Select rows to compare losses on, those with a new token first, cut to the maximum length."""
    rows = tokenize(tokenizer, _load_examples(rewritten)[: request.parity_prompts], "conversation", new_ids)
    selected = sorted(rows, key=lambda row: not {*new_ids} & {*row.ids})[:_COMPARED_ROWS]
    return [TokenizedRow(row.ids[:_MAX_TOKENS], row.kinds[:_MAX_TOKENS], row.group) for row in selected]


def _select_prompts(tokenizer: Any, rewritten: Path, count: int) -> list[list[int]]:
    """Return the token ids of the prompts of the first test rows, and of training rows if there are too few."""
    return [encode_prompt(tokenizer, row["messages"][:-1]) for row in _load_examples(rewritten)[:count]]


def _load_examples(rewritten: Path) -> list[Example]:
    return [row for split in ("test", "train") for row in pq.read_table(fetch(rewritten / f"{split}.parquet")).to_pylist()]
