"""The stage ``model``: what was trained, as a Hugging Face model folder and as an adapter over the base, each compared with transformers.

``data`` is the merged model. ``data/adapter`` is the adapter in PEFT's format, where what was trained is one; ``data/parity.json`` has the
comparison of each form with transformers, or why vLLM does not serve it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import ray

from delia_ray.core.artifacts import MODEL_KIND, Artifact, Counts, Provenance, Workspace, build_once
from delia_ray.core.errors import UserError
from delia_ray.core.records import Message
from delia_ray.core.storage.transfer import fetch
from delia_ray.models import load_tokenizer, token_ids
from delia_ray.models.exported import MERGED, PARITY, name_form, read_rank
from delia_ray.placement import Engine, Replicas
from delia_ray.ray_runtime.capacity import demand_of_engine, reserve_engine
from delia_ray.ray_runtime.cluster import Connect
from delia_ray.ray_runtime.tasks import get_result
from delia_ray.ray_runtime.vllm_arguments import build_engine_kwargs, build_quantization_kwargs, choose_quantized_dtype
from delia_ray.training.export.forms import Exported, ExportRequest, Form, export_forms
from delia_ray.training.export.greedy import Answer
from delia_ray.training.export.parity import Parity, ParityError, compare
from delia_ray.upstream.vllm_lora import build_adapter_kwargs

STAGE = "model/3"


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
    """Save what was trained to ``out``, merged and as an adapter, and check each form in transformers and vLLM.

    Args:
        card: the model card's text.

    Raises:
        UserError: the checkpoint was trained from another model.
        ParityError: merging changed the loss of a token, or transformers and vLLM differ on a prompt, by more than rounding.
    """
    _check_base(base, checkpoint)

    def write(workspace: Workspace) -> Counts:
        connect(demand_of_engine(replicas))
        parities = _export_and_check(request, (base.data, checkpoint.data, rewritten.data, workspace.data), engine, replicas)
        _check_parities(parities)
        written = {name: {"reason": each} if isinstance(each, str) else each.to_json() for name, each in parities.items()}
        (workspace.data / PARITY).write_text(json.dumps(written, indent=1, allow_nan=False) + "\n")
        (workspace.data / "README.md").write_text(card)
        merged = parities[MERGED]
        return {"parity_equal": merged.equal, "parity_ties": merged.ties} if isinstance(merged, Parity) else {}

    inputs = {"base": base, "checkpoint": checkpoint}
    return build_once(out, stage=STAGE, kind=MODEL_KIND, request=request, inputs=inputs, provenance=provenance, write=write)


def _export_and_check(
    request: ExportRequest, folders: tuple[Path, Path, Path, Path], engine: Engine, replicas: Replicas
) -> Mapping[str, Parity | str]:
    """Export in a task, and check each form in one of its own: form -> comparison, or why there is none."""
    # Each process ends with its task (max_calls), so that two models and an engine do not stay in memory.
    export = ray.remote(num_cpus=replicas.num_cpus, num_gpus=replicas.total_gpus if replicas.processes == 1 else 0, max_calls=1)(
        export_forms
    )
    exported: Exported = get_result(export.remote(request, *folders, replicas))
    parities: dict[str, Parity | str] = dict(exported.missing)
    quantized = [replace(form, quantization=replicas.quantization) for form in exported.forms if replicas.quantization]
    with reserve_engine(replicas) as options:
        check = ray.remote(**options, max_calls=1)(check_form)
        for form in (*exported.forms, *quantized):
            compared = get_result(check.remote(request, form, exported.conversations, engine, replicas))
            parities[name_form(form.name, form.quantization)] = compared
    return parities


def _check_base(base: Artifact, checkpoint: Artifact) -> None:
    if checkpoint.manifest.inputs["base"] != base.fingerprint:
        raise UserError(
            f"{checkpoint.path} was trained from another model than {base.path}; export it with the one it was trained from, "
            f"or remove {checkpoint.path} to train again"
        )


def _check_parities(parities: Mapping[str, Parity | str]) -> None:
    for name, parity in parities.items():
        if isinstance(parity, Parity) and parity.faults:
            raise ParityError(f"{name}: {len(parity.faults)} faults in {parity.prompts} prompts: {parity.faults[0]}")


def check_form(
    request: ExportRequest, form: Form, conversations: Sequence[Sequence[Message]], engine: Engine, replicas: Replicas
) -> Parity | str:
    """Answer the conversations with vLLM and compare; a text says why vLLM takes no such form."""
    from delia_ray.training.export.vllm_answers import explain_unserved, generate_with_vllm, read_stop_token_ids  # noqa: PLC0415  imports all of vLLM

    if not form.references:
        return "no prompt of the task is short enough to be compared"
    fetch(form.folder)
    dtype = choose_quantized_dtype(form.dtype, form.quantization)
    kwargs = build_engine_kwargs(engine, dtype, form.max_model_len, replicas) | build_quantization_kwargs(form.quantization)
    if replicas.pipeline_parallel > 1:
        kwargs["distributed_executor_backend"] = "ray"  # its stages may be on several nodes
    if form.adapter is not None:
        fetch(form.adapter)
        if reason := explain_unserved(form.folder, form.adapter):
            return reason
        kwargs |= build_adapter_kwargs([read_rank(form.adapter)])
    answers: list[Answer] = generate_with_vllm(form.folder, conversations, request.parity_tokens, kwargs, form.adapter)
    tokenizer = load_tokenizer(form.folder)
    parity = compare(form.references, answers, token_ids(tokenizer, request.new_tokens), form.quantization or form.dtype, tokenizer.decode)
    stops = read_stop_token_ids(form.folder)
    if stops != list(form.stop_token_ids):
        fault = f"answers end at {tokenizer.convert_ids_to_tokens(stops)}, in transformers at "
        fault += f"{tokenizer.convert_ids_to_tokens(list(form.stop_token_ids))}"
        return replace(parity, faults=(*parity.faults, fault))
    return parity
