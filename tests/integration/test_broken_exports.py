"""Exports that are not what was trained: the comparison with transformers finds each."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import ray
import torch
from adapted_models import train_at_random, write_rows
from safetensors.torch import load_file, save_file
from training_runs import TOKEN

from delia_ray.core.artifacts import Artifact
from delia_ray.core.records import Message
from delia_ray.models import adopt_model, encode_prompt, find_stop_token_ids, load_model, load_tokenizer, token_ids
from delia_ray.models.exported import ADAPTER, MERGED
from delia_ray.placement import Engine, Replicas
from delia_ray.training.export.forms import Exported, ExportRequest, Form, export_forms
from delia_ray.training.export.greedy import generate_reference
from delia_ray.training.export.parity import Parity
from delia_ray.training.export.stage import check_form

pytestmark = pytest.mark.slow
REQUEST = ExportRequest(new_tokens=(TOKEN,), dtype="float32", parity_prompts=8, parity_tokens=16)
REPLICAS = Replicas(form="adapter")


@pytest.fixture(scope="module")
def exports(base: Artifact, tmp_path_factory: pytest.TempPathFactory) -> list[Exported]:
    """Two exports with different weights."""
    place = tmp_path_factory.mktemp("exports")
    write_rows(place / "rewritten")
    found: list[Exported] = []
    for seed in range(2):
        train_at_random(base.data, seed, place / f"checkpoint-{seed}/trained")
        (out := place / f"model-{seed}").mkdir()
        found.append(export_forms(REQUEST, base.data, place / f"checkpoint-{seed}", place / "rewritten", out, REPLICAS))
    return found


def find(exported: Exported, name: str) -> Form:
    return next(form for form in exported.forms if form.name == name)


def check(form: Form, exported: Exported, engine: Engine) -> Parity:
    task = ray.remote(num_cpus=1, max_calls=1)(check_form)
    parity = ray.get(task.remote(REQUEST, form, exported.conversations, engine, REPLICAS))
    assert isinstance(parity, Parity)
    return parity


def test_quantized_weights_are_compared_with_what_they_were(local_ray: None, engine: Engine):
    """Of the built-in model: which tokens follow in one of random weights, quantization changes altogether."""
    folder = adopt_model("builtin:smollm2-135m-instruct").path
    conversations: list[list[Message]] = [[{"role": "user", "content": f"Tell me of {text}."}] for text in ("a river", "a king", "the sea")]
    model, tokenizer = load_model(folder, torch.float32).eval(), load_tokenizer(folder)
    references = generate_reference(model, tokenizer, [encode_prompt(tokenizer, each) for each in conversations], 16)
    stops = find_stop_token_ids(tokenizer, model.generation_config.eos_token_id)
    exported = Exported([Form(MERGED, folder, "float32", 256, references, stops, quantization="fp8")], {}, conversations)
    parity = check(exported.forms[0], exported, engine)
    assert parity.faults == () and parity.dtype == "fp8" and parity.equal + parity.ties == parity.prompts == 3
    assert 0.01 < parity.mean_difference, "the weights were not quantized"


def test_quantized_weights_of_another_model_are_found(local_ray: None, base: Artifact, exports: list[Exported], engine: Engine):
    form = find(exports[0], MERGED)
    assert check(replace(form, folder=base.data, quantization="fp8"), exports[0], engine).faults


def end_elsewhere(folder: Path, base: Path) -> None:
    file = folder / "generation_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "eos_token_id": 17}))


def drop_row(folder: Path, base: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["model.embed_tokens.weight"][token_ids(load_tokenizer(folder), [TOKEN])] = 0
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def leave_unmerged(folder: Path, base: Path) -> None:
    shutil.copy(base / "model.safetensors", folder / "model.safetensors")


def render_otherwise(folder: Path, base: Path) -> None:
    file = folder / "chat_template.jinja"
    file.write_text(file.read_text().replace("<|im_start|>", "<|im_start|> "))


@pytest.mark.parametrize("name", [MERGED, ADAPTER])
def test_each_form_answers_as_it_was_trained(local_ray: None, exports: list[Exported], engine: Engine, name: str):
    parity = check(find(exports[0], name), exports[0], engine)
    assert parity.faults == () and (parity.prompts, parity.with_token) == (8, 8) and parity.equal + parity.ties == 8


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (end_elsewhere, "answers end at"),
        (drop_row, "vLLM wrote"),
        (leave_unmerged, "vLLM wrote"),
        (render_otherwise, "vLLM renders a conversation as"),
    ],
    ids=["another end", "a dropped row", "not merged", "another template"],
)
def test_a_broken_merged_model_is_found(
    local_ray: None,
    base: Artifact,
    exports: list[Exported],
    engine: Engine,
    tmp_path: Path,
    break_it: Callable[[Path, Path], None],
    said: str,
):
    form = find(exports[0], MERGED)
    shutil.copytree(form.folder, tmp_path / "broken")
    break_it(tmp_path / "broken", base.data)
    faults = check(replace(form, folder=tmp_path / "broken"), exports[0], engine).faults
    assert any(said in fault for fault in faults), faults


def test_the_adapter_of_another_arm_is_found(local_ray: None, exports: list[Exported], engine: Engine):
    form, other = (find(exported, ADAPTER) for exported in exports)
    assert check(replace(form, adapter=other.adapter), exports[0], engine).faults
