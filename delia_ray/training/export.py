"""The stage ``model``: one plain Hugging Face folder that answers alike in transformers and in vLLM."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq
import ray

from delia_ray.artifacts import MODEL_KIND, Artifact, Counts, Provenance, Workspace, build_once
from delia_ray.config import Config
from delia_ray.errors import UserError
from delia_ray.models import load_tokenizer, resolve_dtype, save_whole, token_ids
from delia_ray.placement import Engine, Replicas
from delia_ray.records import Example
from delia_ray.runtime import Connect, engine_kwargs
from delia_ray.training.parity import Parity, compare
from delia_ray.training.tokens import prompt_text

STAGE = "model/1"
_LONGEST_TOKENS = 1024
"""Of a prompt and its answer in the comparison, where the model reads that many."""


class ExportRequest(Config):
    """How the exported folder is made and checked."""

    new_tokens: tuple[str, ...]
    parity_prompts: int = 16
    """Task prompts that both stacks answer."""
    parity_tokens: int = 32
    """Longest answer compared, in tokens."""


class ParityError(RuntimeError):
    """The exported folder answers differently in transformers and in vLLM."""


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
        ParityError: the two stacks disagree on a prompt by more than rounding.
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
    from delia_ray.training.model import merge_trained  # noqa: PLC0415  torch takes seconds to import

    tokenizer = load_tokenizer(start)
    dtype = resolve_dtype(engine.dtype)
    merged = merge_trained(start, checkpoint / "trained", token_ids(tokenizer, request.new_tokens), resolve_dtype("float32"))
    save_whole(merged.to(dtype), tokenizer, out)
    longest = min(_LONGEST_TOKENS, merged.config.max_position_embeddings)
    del merged
    prompts = _prompts(tokenizer, rewritten, request.parity_prompts)
    # Two stacks that round alike nowhere may part ways in bfloat16 without a mistake in either; in float32 they may not.
    compared = dtype if num_gpus else resolve_dtype("float32")
    kwargs = engine_kwargs(engine, str(compared).removeprefix("torch."), max_model_len=longest, num_gpus=num_gpus)
    return compare(out, prompts, request.parity_tokens, compared, kwargs)


def _prompts(tokenizer: object, rewritten: Path, count: int) -> Sequence[str]:
    """Rendered prompts of the first test rows, or of the training rows where there are too few."""
    rows: list[Example] = [row for split in ("test", "train") for row in pq.read_table(rewritten / f"{split}.parquet").to_pylist()]
    return [prompt_text(tokenizer, row["messages"][:-1]) for row in rows[:count]]
