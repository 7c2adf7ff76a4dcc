"""The stage ``model``: one plain Hugging Face folder that answers alike in transformers and in vLLM."""

import gc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import ray

from delia_ray.artifacts import MODEL_KIND, Artifact, Counts, Provenance, Workspace, build_once
from delia_ray.config import Config
from delia_ray.errors import UserError
from delia_ray.models import load_tokenizer, prompt_ids, resolve_dtype, save_whole, token_ids
from delia_ray.models.families import context_tokens
from delia_ray.placement import Engine, Replicas
from delia_ray.records import Example
from delia_ray.runtime import Connect, engine_kwargs
from delia_ray.training.parity import Parity, compare
from delia_ray.training.tokens import TokenisedRow, tokenise

STAGE = "model/2"
_LONGEST_TOKENS = 1024
"""Of a prompt and its answer in the comparison, where the model reads that many."""
_COMPARED_ROWS = 4
_MERGED_NATS = 0.01
"""How much merging may move the cost of a token, in float32; a row that is merged at the wrong scale moves it by ten times as much."""


class ExportRequest(Config):
    """How the exported folder is made and checked."""

    new_tokens: tuple[str, ...]
    dtype: str
    """Precision of the weights, the run's."""
    parity_prompts: int = 16
    """Task prompts that both stacks answer."""
    parity_tokens: int = 32
    """Longest answer compared, in tokens."""


class ParityError(RuntimeError):
    """The exported folder is not the model that was trained, or answers differently in transformers and in vLLM."""


def export(
    request: ExportRequest,
    start: Artifact,
    checkpoint: Artifact,
    rewritten: Artifact,
    engine: Engine,
    replicas: Replicas,
    connect: Connect,
    card: str,
    out: Path,
    provenance: Provenance,
) -> Artifact:
    """Merge what was learnt into the start model, save it whole, and check it in both stacks.

    Args:
        card: the model card's text.

    Raises:
        UserError: the checkpoint was trained from another model.
        ParityError: merging changed what a row's tokens cost, or the two stacks disagree on a prompt, by more than rounding.
    """
    _check_base(start, checkpoint)

    def write(workspace: Workspace) -> Counts:
        connect()
        # Its process ends with it (max_calls): two models and an engine must not stay in memory beside what follows.
        task = ray.remote(num_cpus=replicas.num_cpus, num_gpus=replicas.num_gpus, max_calls=1)(_merge_and_check)
        places = (start.data, checkpoint.data, rewritten.data, workspace.data)
        parity: Parity = ray.get(task.remote(request, *places, engine, replicas.num_gpus))
        _check(parity, request)
        (workspace.data / "README.md").write_text(card)
        return {"parity_equal": parity.equal, "parity_ties": parity.ties}

    inputs = {"start": start, "checkpoint": checkpoint}
    return build_once(out, stage=STAGE, kind=MODEL_KIND, request=request, inputs=inputs, provenance=provenance, write=write)


def _check_base(start: Artifact, checkpoint: Artifact) -> None:
    if checkpoint.manifest.inputs["start"] != start.fingerprint:
        raise UserError(
            f"{checkpoint.path} was trained from another model than {start.path}; export it with the one it was trained from, "
            f"or remove {checkpoint.path} to train again"
        )


def _check(parity: Parity, request: ExportRequest) -> None:
    if parity.different:
        raise ParityError(f"{len(parity.different)} of {request.parity_prompts} prompts: {parity.different[0]}")


def _merge_and_check(
    request: ExportRequest, start: Path, checkpoint: Path, rewritten: Path, out: Path, engine: Engine, num_gpus: int
) -> Parity:
    from delia_ray.training.model import load_trained, merge_trained  # noqa: PLC0415  torch takes seconds to import
    from delia_ray.training.objective import merged_costs, trained_costs  # noqa: PLC0415

    tokenizer, single = load_tokenizer(start), resolve_dtype("float32")
    new_ids, trained = token_ids(tokenizer, request.new_tokens), checkpoint / "trained"
    rows = _rows(tokenizer, rewritten, request, new_ids)
    before = trained_costs(load_trained(start, trained, new_ids, single), rows)
    gc.collect()  # its hooks hold the model, and the next one may be as large as half of the memory
    merged = merge_trained(start, trained, new_ids, single)
    moved = max((abs(a - b) for a, b in zip(before, merged_costs(merged, rows), strict=True)), default=0.0)
    if moved > _MERGED_NATS:
        raise ParityError(f"merging moved the cost of a token by {moved:.3f} nats, so {out} would not be the model that was trained")
    dtype = resolve_dtype(request.dtype)
    save_whole(merged.to(dtype), tokenizer, out)
    longest = min(_LONGEST_TOKENS, context_tokens(merged))
    del merged
    prompts = _prompts(tokenizer, rewritten, request.parity_prompts)
    # Two stacks that round alike nowhere may part ways in bfloat16 without a mistake in either; in float32 they may not.
    compared = dtype if num_gpus else single
    kwargs = engine_kwargs(engine, str(compared).removeprefix("torch."), max_model_len=longest, num_gpus=num_gpus)
    return compare(out, prompts, request.parity_tokens, compared, kwargs)


def _rows(tokenizer: Any, rewritten: Path, request: ExportRequest, new_ids: Sequence[int]) -> list[TokenisedRow]:
    """Short rows to compare costs on, those that hold a new token first."""
    rows = tokenise(tokenizer, _examples(rewritten)[: request.parity_prompts], "conversation", new_ids)
    first = sorted(rows, key=lambda row: not {*new_ids} & {*row.ids})[:_COMPARED_ROWS]
    return [TokenisedRow(row.ids[:_LONGEST_TOKENS], row.kinds[:_LONGEST_TOKENS], row.group) for row in first]


def _prompts(tokenizer: Any, rewritten: Path, count: int) -> list[list[int]]:
    """Token ids of the prompts of the first test rows, or of the training rows where there are too few."""
    return [prompt_ids(tokenizer, row["messages"][:-1]) for row in _examples(rewritten)[:count]]


def _examples(rewritten: Path) -> list[Example]:
    return [row for split in ("test", "train") for row in pq.read_table(rewritten / f"{split}.parquet").to_pylist()]
