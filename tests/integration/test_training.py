"""The sums of training, against plain torch on a small model in float32."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from tensorboardX.proto import event_pb2

from delia_ray.artifacts import Adopted, Artifact, Counts, Provenance, Workspace, build_once
from delia_ray.config import Config
from delia_ray.errors import UserError
from delia_ray.models import load_model, load_tokenizer, token_ids
from delia_ray.placement import Engine, Replicas, TrainWorkers
from delia_ray.records import MIXED_KIND, MIXED_SCHEMA, keyed_int
from delia_ray.tasks.config import NoiseInit
from delia_ray.terminal import StageLine
from delia_ray.training.config import FinetuneConfig, Full, Lora, TokenOnly
from delia_ray.training.corpus import Corpus
from delia_ray.training.export import ExportRequest, export
from delia_ray.training.flight import Logged
from delia_ray.training.model import merge_trained
from delia_ray.training.packing import shared_prefix
from delia_ray.training.prepare import prepare_corpus
from delia_ray.training.stage import Request, finetune, read_metrics
from delia_ray.training.start import prepare_start
from delia_ray.training.tokens import tokenise

PROVENANCE = Provenance(None, ["pytest"])
TOKEN = "<sep>"
STEPS = 50
CONFIG = FinetuneConfig(
    parameters=Lora(rank=4, dropout=0.0),
    learning_rate=5e-4,
    warmup_steps=5,
    batch_rows=8,
    max_row_tokens=128,
    checkpoint_every=20,
    precision="float32",
)


class Nothing(Config):
    pass


@pytest.fixture(scope="module")
def start(tiny_models: dict[str, Artifact], tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    place = tmp_path_factory.mktemp("start") / "start"
    model = Adopted(tiny_models["one"].data, tiny_models["one"].fingerprint)
    return prepare_start(model, (TOKEN,), NoiseInit(), 1, place, PROVENANCE)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    def row(group: str, n: int) -> dict[str, Any]:
        asked = f"Judge this with {TOKEN}: {n}." if group == "task" else f"Tell me a story that is {n} words long and has a fox in it."
        answered = "yes " * (n % 5 + 1) if group == "task" else "once upon a time there was a fox " * (n % 4 + 1)
        identifier = f"{group}-{n}"
        messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": answered}]
        return {
            "example_id": identifier,
            "group": group,
            "messages": messages,
            "label": None,
            "order_key": keyed_int(0, "order", identifier),
        }

    def write(workspace: Workspace) -> Counts:
        rows = [row(group, n) for group in ("task", "diverse") for n in range(8)]
        pq.write_table(pa.Table.from_pylist(rows, schema=MIXED_SCHEMA), workspace.data / "0.parquet")
        return {"rows": len(rows)}

    place = tmp_path_factory.mktemp("mixed") / "mixed"
    return build_once(place, stage="given/1", kind=MIXED_KIND, request=Nothing(), inputs={}, provenance=PROVENANCE, write=write)


def train(start: Artifact, mixed: Artifact, out: Path, config: FinetuneConfig = CONFIG, steps: int = STEPS, **workers: Any) -> Artifact:
    request = Request(finetune=config, steps=steps, new_tokens=(TOKEN,))
    return finetune(request, start, mixed, TrainWorkers(**workers), lambda: None, StageLine("test"), out, PROVENANCE)


def losses(checkpoint: Artifact, name: str = "loss") -> np.ndarray:
    return np.array([line[name] for line in read_metrics(checkpoint.data / "metrics.jsonl")])


def assert_same_curve(found: np.ndarray, wanted: np.ndarray, tolerance: float = 1e-5) -> None:
    """Within ``tolerance`` at every step, and off in both directions: rounding scatters, a mistake in the sums drifts."""
    residuals = found - wanted
    assert len(found) == len(wanted) and np.abs(residuals).max() <= tolerance, residuals
    standard_error = residuals.std() / len(residuals) ** 0.5
    assert abs(residuals.mean()) <= 4 * standard_error + 2e-7, residuals


def plain_losses(start: Artifact, mixed: Artifact) -> np.ndarray:
    """The same training as a reader would write it: one row at a time, full logits, no packing, no DeepSpeed, no Ray."""
    torch.manual_seed(CONFIG.seed)
    tokenizer, model = load_tokenizer(start.data), load_model(start.data, torch.float32)
    [token] = token_ids(tokenizer, [TOKEN])
    lora = LoraConfig(
        r=4, lora_alpha=16, target_modules="all-linear", trainable_token_indices={"embed_tokens": [token], "lm_head": [token]}
    )
    model = get_peft_model(model, lora, autocast_adapter_dtype=False)
    weights = [p for n, p in model.named_parameters() if p.requires_grad and "lora" in n]
    rows = [p for n, p in model.named_parameters() if p.requires_grad and "lora" not in n]
    optimizer = torch.optim.AdamW(
        [{"params": weights, "weight_decay": CONFIG.weight_decay}, {"params": rows, "weight_decay": 0.0}], lr=CONFIG.learning_rate
    )
    examples = pq.read_table(mixed.data).sort_by("order_key").to_pylist()
    seen: list[float] = []
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = CONFIG.learning_rate * min(1.0, (step + 1) / CONFIG.warmup_steps)
        total, count = torch.zeros(()), 0
        for place in range(step * 8, step * 8 + 8):
            epoch, index = divmod(place, len(examples))
            in_epoch = examples if epoch == 0 else sorted(examples, key=lambda e: keyed_int(0, f"epoch-{epoch}", e["example_id"]))
            question, answer = in_epoch[index]["messages"]
            prompt = tokenizer.apply_chat_template([question], tokenize=False, add_generation_prompt=True)
            ids = tokenizer(prompt + answer["content"] + "<|im_end|>", add_special_tokens=False)["input_ids"]
            asked = len(tokenizer(prompt, add_special_tokens=False)["input_ids"])
            logits = model(input_ids=torch.tensor([ids])).logits[0, asked - 1 : -1]
            total = total + torch.nn.functional.cross_entropy(logits, torch.tensor(ids[asked:]), reduction="sum")
            count += len(ids) - asked
        (total / count).backward()
        torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], CONFIG.gradient_clip)
        optimizer.step()
        optimizer.zero_grad()
        seen.append((total / count).item())
    return np.array(seen)


@pytest.fixture(scope="module")
def reference(local_ray: None, start: Artifact, mixed: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return train(start, mixed, tmp_path_factory.mktemp("reference") / "checkpoint")


def test_the_loss_curve_is_that_of_a_plain_torch_loop(reference: Artifact, start: Artifact, mixed: Artifact):
    rows = tokenise(load_tokenizer(start.data), pq.read_table(mixed.data).to_pylist(), "answer")  # pyright: ignore[reportArgumentType]
    assert len(shared_prefix(rows)) > 0  # so that packs of the reference have a prefix, and the plain loop has none
    plain = plain_losses(start, mixed)
    assert_same_curve(losses(reference), plain)
    assert plain[-5:].mean() < 0.9 * plain[:5].mean()


def test_each_group_of_rows_has_its_own_loss(reference: Artifact):
    task, diverse, both = (losses(reference, name) for name in ("task_loss", "diverse_loss", "loss"))
    assert (np.minimum(task, diverse) - 1e-6 <= both).all() and (both <= np.maximum(task, diverse) + 1e-6).all()
    assert not np.allclose(task, diverse)


@pytest.mark.parametrize(
    "workers",
    [
        {"workers": 2},
        {"zero_stage": 0, "micro_batch_tokens": 16},
        {"zero_stage": 2, "recompute": "layers", "trackers": ("tensorboard",)},
        {"zero_stage": 3, "kernels": "compiled"},
    ],
    ids=str,
)
def test_where_it_runs_does_not_change_the_curve(
    reference: Artifact, start: Artifact, mixed: Artifact, tmp_path: Path, workers: dict[str, Any]
):
    """Two workers, a row a pack (so that gradients add up over eight of them), every ZeRO stage, recomputed activations, compiled norms."""
    elsewhere = train(start, mixed, tmp_path / "checkpoint", **workers)
    assert_same_curve(losses(elsewhere), losses(reference))
    assert losses(elsewhere, "update_norm") == pytest.approx(losses(reference, "update_norm"), rel=1e-3)
    if "trackers" in workers:
        [events] = (elsewhere.data / "tensorboard").iterdir()
        assert scalars(events, "loss") == pytest.approx(losses(elsewhere))


def scalars(events: Path, name: str) -> list[float]:
    """The values of ``name`` in a file of length-prefixed TensorBoard events."""
    data, values = events.read_bytes(), list[float]()
    while data:
        size = int.from_bytes(data[:8], "little")
        values += [value.simple_value for value in event_pb2.Event.FromString(data[12 : 12 + size]).summary.value if value.tag == name]
        data = data[16 + size :]
    return values


def test_a_run_that_was_asked_to_stop_goes_on_with_another_number_of_workers(
    reference: Artifact, start: Artifact, mixed: Artifact, tmp_path: Path
):
    out = tmp_path / "checkpoint"
    threading.Thread(target=_terminate_after, args=(tmp_path, 10), daemon=True).start()
    with pytest.raises(SystemExit, match="143"):
        train(start, mixed, out, workers=2)
    stopped_at = len(next(tmp_path.glob(".checkpoint.inflight-*/metrics.jsonl")).read_text().splitlines())
    assert 10 <= stopped_at < STEPS and not out.exists()
    assert_same_curve(losses(train(start, mixed, out, workers=1, zero_stage=2)), losses(reference))


def _steps_in(folder: Path) -> int:
    return sum(len(file.read_text().splitlines()) for file in folder.glob(".checkpoint.inflight-*/metrics.jsonl"))


def _terminate_after(folder: Path, steps: int) -> None:
    while _steps_in(folder) < steps:
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGTERM)


def test_only_the_new_row_of_the_vocabulary_moves(reference: Artifact, start: Artifact):
    tokenizer, before = load_tokenizer(start.data), load_model(start.data, torch.float32)
    [token] = token_ids(tokenizer, [TOKEN])
    after = merge_trained(start.data, reference.data / "trained", [token], torch.float32)
    for layer in ("get_input_embeddings", "get_output_embeddings"):
        old, new = getattr(before, layer)().weight, getattr(after, layer)().weight
        moved = (old != new).any(dim=1).nonzero().flatten().tolist()
        assert moved == [token]


def test_full_training_moves_every_layer_and_saves_a_whole_model(local_ray: None, start: Artifact, mixed: Artifact, tmp_path: Path):
    config = CONFIG.model_copy(update={"parameters": Full(kind="full"), "learning_rate": 1e-3})
    checkpoint = train(start, mixed, tmp_path / "checkpoint", config, steps=15)
    before, after = load_file(start.data / "model.safetensors"), load_file(checkpoint.data / "trained/full/model.safetensors")
    assert {name for name in after if "layers" in name and torch.equal(before[name], after[name])} == set()
    assert losses(checkpoint)[-1] < losses(checkpoint)[0]


def test_a_row_that_is_too_long_is_refused_by_its_id(local_ray: None, start: Artifact, mixed: Artifact, tmp_path: Path):
    with pytest.raises(UserError, match=r"row (task|diverse)-\d has \d+ tokens, more than finetune\.max_row_tokens=16"):
        train(start, mixed, tmp_path / "checkpoint", CONFIG.model_copy(update={"max_row_tokens": 16}))
    assert not (tmp_path / "checkpoint").exists()


@pytest.mark.parametrize(
    ("long_rows", "limit", "counts"),
    [
        ("truncate", 60, {"rows": 16, "truncated": 6}),
        ("truncate", 45, {"rows": 8, "truncated": 2}),  # of the other eight no answer would be left
        ("drop", 60, {"rows": 10, "truncated": 0}),
    ],
)
def test_rows_that_are_too_long_are_cut_or_left_out_and_counted(
    local_ray: None, start: Artifact, mixed: Artifact, tmp_path: Path, long_rows: str, limit: int, counts: dict[str, int]
):
    config = CONFIG.model_copy(update={"max_row_tokens": limit, "long_rows": long_rows})
    assert prepare_corpus(mixed.data, start.data, (), config, tmp_path / "corpus") == counts
    corpus = Corpus(tmp_path / "corpus")
    whole = tokenise(load_tokenizer(start.data), pq.read_table(mixed.data).sort_by("order_key").to_pylist(), "answer")  # pyright: ignore[reportArgumentType]
    kept = [row for row in whole if (any(row.kinds[1:limit]) if long_rows == "truncate" else len(row.ids) <= limit)]
    assert [list(corpus[index].ids) for index in range(len(corpus))] == [row.ids[:limit] for row in kept]


@pytest.mark.parametrize("long_rows", ["truncate", "drop"])
def test_a_mixture_of_which_no_answer_is_left_is_refused(local_ray: None, start: Artifact, mixed: Artifact, tmp_path: Path, long_rows: str):
    config = CONFIG.model_copy(update={"max_row_tokens": 12, "long_rows": long_rows})
    with pytest.raises(UserError, match=r"finetune\.max_row_tokens: no row is left, .* within 12 tokens; raise it"):
        prepare_corpus(mixed.data, start.data, (), config, tmp_path / "corpus")
    assert not (tmp_path / "corpus").exists()


@pytest.mark.parametrize(("tied", "stage"), [(False, 1), (True, 3)])
def test_only_the_new_row_moves_when_only_it_is_trained(
    local_ray: None, tiny_models: dict[str, Artifact], tied_model: Artifact, mixed: Artifact, tmp_path: Path, tied: bool, stage: int
):
    model = tied_model if tied else tiny_models["one"]
    start = prepare_start(Adopted(model.data, model.fingerprint), (TOKEN,), NoiseInit(), 1, tmp_path / "start", PROVENANCE)
    config = CONFIG.model_copy(update={"parameters": TokenOnly(kind="token_only"), "token_learning_rate": 1e-2})
    trained = train(start, mixed, tmp_path / "checkpoint", config, steps=6, zero_stage=stage).data / "trained"
    assert [file.name for file in trained.iterdir()] == ["new_rows.safetensors"]
    tokenizer, before = load_tokenizer(start.data), load_model(start.data, torch.float32)
    [token] = token_ids(tokenizer, [TOKEN])
    after = merge_trained(start.data, trained, [token], torch.float32).state_dict()
    moved = {name: (old != after[name]) for name, old in before.state_dict().items() if not torch.equal(old, after[name])}
    assert set(moved) == {"model.embed_tokens.weight", "lm_head.weight"}
    assert all(rows.any(dim=1).nonzero().flatten().tolist() == [token] for rows in moved.values())
    assert torch.equal(after["model.embed_tokens.weight"], after["lm_head.weight"]) is tied


def test_progress_follows_a_log_that_a_resumed_run_has_cut(tmp_path: Path):
    log = tmp_path / "metrics.jsonl"
    line = '{"step": 1, "tokens": 7}\n'
    log.write_text(line * 3)
    done = Logged(log)
    assert done.read() == (3, 0)
    log.open("a").write(line + '{"step": 5, "tok')
    assert done.read() == (4, 7)
    (tmp_path / "new").write_text(line * 2)
    os.replace(tmp_path / "new", log)
    log.open("a").write(line * 4)
    assert done.read() == (6, 7)
    log.open("a").write(line)
    assert done.read() == (7, 14)


def test_an_adapter_of_another_base_is_not_exported(reference: Artifact, mixed: Artifact, tiny_models: dict[str, Artifact], tmp_path: Path):
    other = Adopted(tiny_models["two"].data, tiny_models["two"].fingerprint)
    start = prepare_start(other, (TOKEN,), NoiseInit(), 1, tmp_path / "start", PROVENANCE)
    request, place = ExportRequest(new_tokens=(TOKEN,)), tmp_path / "model"
    with pytest.raises(UserError, match=r"checkpoint was trained from another model than .*start; .*remove"):
        export(request, start, reference, mixed, Engine(), Replicas(), lambda: None, "card", place, PROVENANCE)
    assert not place.exists()


def test_a_loss_that_is_no_number_names_its_step_and_rows(local_ray: None, start: Artifact, mixed: Artifact, tmp_path: Path):
    config = CONFIG.model_copy(update={"learning_rate": 1e30, "warmup_steps": 0})
    with pytest.raises(UserError, match=r"step \d+: the loss is (nan|inf).* on rows (task|diverse)-\d+, .*learning_rate"):
        train(start, mixed, tmp_path / "checkpoint", config)
    assert not (tmp_path / "checkpoint").exists()


def test_a_full_disk_is_told_and_its_last_checkpoint_goes_on(
    reference: Artifact, start: Artifact, mixed: Artifact, tmp_path: Path, small_disk: Path
):
    out = small_disk / "checkpoint"
    threading.Thread(target=_fill_after, args=(small_disk, 25), daemon=True).start()
    with pytest.raises(UserError, match=r"run\.root: the disk below .* is full"):
        train(start, mixed, out, max_failures=0)
    kept = list(small_disk.glob(".checkpoint.inflight-*/checkpoints/step-*"))
    assert kept and not out.exists()
    (small_disk / "filler").unlink()
    assert_same_curve(losses(train(start, mixed, out)), losses(reference))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(place)], check=False, capture_output=True).returncode:
        pytest.skip("a small disk is a tmpfs, which this user may not mount")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def _fill_after(folder: Path, steps: int) -> None:
    while _steps_in(folder) < steps:
        time.sleep(0.01)
    try:
        (folder / "filler").write_bytes(bytes(32 * 2**20))
    except OSError:
        return
