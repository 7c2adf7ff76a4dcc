"""The probe on real (if small) language models: against brute force, and from artifacts to a page."""

import json
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from delia_ray.artifacts import MODEL_KIND, Artifact, Counts, Provenance, Workspace, build_once
from delia_ray.config import Config
from delia_ray.errors import UserError
from delia_ray.evaluation.client import LocalTally
from delia_ray.evaluation.config import ScoreConfig
from delia_ray.models import load_model, load_tokenizer, prompt_text, save_whole
from delia_ray.placement import Engine, TrainWorkers
from delia_ray.probing.config import ProbeConfig
from delia_ray.probing.coordinates import Coordinates, choose_weights
from delia_ray.probing.fisher import fisher_product
from delia_ray.probing.gradients import row_gradient, row_gradients
from delia_ray.probing.language import LanguageModel, draw_answers
from delia_ray.probing.rows import choose_rows
from delia_ray.probing.stage import Subjects, conclude, measure
from delia_ray.progress import Reading
from delia_ray.records import EXAMPLES_KIND, EXCHANGE_KIND, EXCHANGE_SCHEMA, MIXED_KIND, MIXED_SCHEMA, TASK_SCHEMA
from delia_ray.reporting.probe import render_probe
from delia_ray.training.config import FinetuneConfig
from delia_ray.training.model import build_trainable, merge_trained, save_trained
from delia_ray.training.stage import CHECKPOINT_KIND
from delia_ray.training.tokens import TokenisedRow

CONFIG = ProbeConfig(
    rows=6, answer_tokens=8, coordinates=4000, step_lengths=(1e-3, 1e-2), fisher_rows=4, eigenvectors=2, iterations=5, held_out=8,
    resamples=1000,
)  # fmt: skip
ROW = TokenisedRow([5, 9, 300, 17, 2], [0, 0, 1, 1, 4], "diverse")


class QuietLine:
    @contextmanager
    def follow(self, done: Reading, total: int, unit: str) -> Generator[None]:
        yield
        self.counted, self.total = done.read()[0], total

    def say(self, text: str) -> None: ...


class Made(Config):
    finetune: FinetuneConfig = FinetuneConfig()
    steps: int = 3


@pytest.fixture(scope="module")
def small(tiny_models: dict[str, Artifact]) -> Any:
    return load_model(tiny_models["one"].data, torch.float32)


def test_a_language_models_fisher_product_is_that_of_its_jacobian(tiny_models: dict[str, Artifact]) -> None:
    """Against J' (diag p - p p') J v, with J v as the derivative of J' u by u: backward twice, and never forward.

    Finite differences would not do: norms and attention are in single precision whatever the weights are.
    """
    double = load_model(tiny_models["one"].data, torch.float64)
    weights, model = choose_weights(double, ["*.layers.?.self_attn.k_proj.weight", "*.layers.0.mlp.up_proj.weight"]), LanguageModel(double)
    generator = torch.Generator().manual_seed(3)
    tangents = {name: torch.randn(weight.shape, generator=generator, dtype=torch.float64) for name, weight in weights.items()}
    found = fisher_product(model, weights, ROW, tangents)
    free = {name: weight.detach().requires_grad_() for name, weight in weights.items()}
    logits_TV = model.logits(free, ROW)
    any_TV = torch.zeros_like(logits_TV, requires_grad=True)
    pulled = torch.autograd.grad(logits_TV, list(free.values()), any_TV, create_graph=True)
    along = sum(((part * tangents[name]).sum() for name, part in zip(free, pulled, strict=True)), torch.zeros(()))
    (moved_TV,) = torch.autograd.grad(along, any_TV, retain_graph=True)
    mass_TV = logits_TV.softmax(-1).detach()
    pulled_TV = mass_TV * (moved_TV - (mass_TV * moved_TV).sum(-1, keepdim=True))
    expected = torch.autograd.grad(logits_TV, list(free.values()), pulled_TV)
    for name, part in zip(free, expected, strict=True):
        torch.testing.assert_close(found[name], part, rtol=1e-4, atol=1e-6 * float(part.abs().max()))
        assert float(part.norm()) > 0


def test_a_rows_gradient_is_that_of_its_summed_loss(small: Any) -> None:
    weights, model = choose_weights(small, "all-linear"), LanguageModel(small)
    found = row_gradient(model, weights, ROW)
    small.zero_grad()
    small.requires_grad_(True)
    labels = torch.tensor([[-100, -100, 300, 17, 2]])
    (small(input_ids=torch.tensor([ROW.ids]), labels=labels).loss * 3).backward()
    for name, weight in small.named_parameters():
        if name in weights:
            torch.testing.assert_close(found[name], weight.grad, rtol=1e-3, atol=1e-5)
    assert "lm_head.weight" not in weights and len(weights) == 14


def test_answers_drawn_at_temperature_one_have_the_models_own_distribution(small: Any, tiny_models: dict[str, Artifact]) -> None:
    """Its own answers' mean log-probability is minus the entropy, position by position; and drawing again gives the same."""
    tokenizer = load_tokenizer(tiny_models["one"].data)
    prompt = tokenizer(prompt_text(tokenizer, [{"role": "user", "content": "Hi"}]))["input_ids"]
    rows = draw_answers(small, [prompt] * 64 + [prompt[:3]] * 16, 4, 2, 0, LocalTally())
    assert draw_answers(small, [prompt] * 64 + [prompt[:3]] * 16, 4, 2, 0, LocalTally()) == rows
    model, gaps = LanguageModel(small), list[float]()
    for row in rows:
        with torch.no_grad():
            logs_TV = model.logits({}, row).log_softmax(-1)
        entropy = float(-(logs_TV.exp() * logs_TV).sum())
        gaps.append(float(logs_TV.gather(1, model.targets(row)[:, None]).sum()) + entropy)
    assert abs(np.mean(gaps)) < 3 * np.std(gaps) / len(gaps) ** 0.5


def test_a_sample_of_the_coordinates_gives_the_norms_of_all(small: Any) -> None:
    weights, model = choose_weights(small, "all-linear"), LanguageModel(small)
    rows = [TokenisedRow([7, number, 40 + number, 2], [0, 0, 1, 4], "diverse") for number in range(6)]
    whole, part = Coordinates(weights, None, 0), Coordinates(weights, 8000, 0)
    (all_NS, _), (some_NS, _) = (row_gradients(model, weights, rows, each, LocalTally()) for each in (whole, part))
    np.testing.assert_allclose(some_NS.norm(dim=1) / part.fraction**0.5, all_NS.norm(dim=1), rtol=0.2)


def made(folder: Path, kind: str, write: Any, inputs: Any = None, request: Config | None = None) -> Artifact:
    def fill(workspace: Workspace) -> Counts:
        return write(workspace.data) or {}

    return build_once(
        folder, stage="made/1", kind=kind, request=request or Made(), inputs=inputs or {}, provenance=Provenance(None, ["pytest"]),
        write=fill,
    )  # fmt: skip


def turns(query: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": query}, {"role": "assistant", "content": answer}]


def store(rows: list[Any], schema: pa.Schema, name: str) -> Any:
    def write(data: Path) -> Counts:
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), data / name)
        return {"rows": len(rows)}

    return write


def moved(start: Artifact, scale: float) -> Any:
    """An adapter at random, ``scale`` far from nothing."""

    def write(data: Path) -> None:
        trainable = build_trainable(start.data, (), FinetuneConfig(), torch.float32)
        torch.manual_seed(5)
        with torch.no_grad():
            for name, weight in trainable.model.named_parameters():
                if "lora_B" in name:
                    weight += scale * torch.randn_like(weight)
        save_trained(trainable, data / "trained")

    return write


def merged(start: Artifact, checkpoint: Artifact) -> Any:
    def write(data: Path) -> None:
        save_whole(merge_trained(start.data, checkpoint.data / "trained", (), torch.float32), load_tokenizer(start.data), data)

    return write


@pytest.fixture(scope="module")
def subjects(tiny_models: dict[str, Artifact], tmp_path_factory: pytest.TempPathFactory) -> Subjects:
    """A run by hand: a pool of which eight rows are trained on, and two arms whose weights were moved little and much."""
    run, start = tmp_path_factory.mktemp("run"), tiny_models["one"]
    pool: list[dict[str, Any]] = [
        {"exchange_id": f"e{n:02d}", "topic": "", "query": f"What is {n}?", "answer": f"It is {n + 1}."}
        | {"prompt_tokens": 9, "answer_tokens": 9}
        for n in range(16)
    ]
    about = {"group": "diverse", "label": None}
    mixed = [
        about | {"example_id": row["exchange_id"], "messages": turns(row["query"], row["answer"]), "order_key": n}
        for n, row in enumerate(pool[:8])
    ]
    task = [
        {"example_id": f"t{n}", "group": "task", "messages": turns(f"Judge {n}", "{}"), "label": None, "instruction": None}
        for n in range(5)
    ]
    models: dict[str, Artifact] = {"base": start}
    for arm, scale in (("it", 0.05), ("delia", 0.005)):
        made(run / "arms" / arm / "mixed", MIXED_KIND, store(mixed if arm == "delia" else [], MIXED_SCHEMA, "0.parquet"))
        checkpoint = made(run / "arms" / arm / "checkpoint", CHECKPOINT_KIND, moved(start, scale))
        models[arm] = made(run / "arms" / arm / "model", MODEL_KIND, merged(start, checkpoint), {"checkpoint": checkpoint})
    return Subjects(
        run=run,
        ratios={"it": 0.0, "delia": 1.6},
        start=start,
        rewritten=made(run / "rewritten", EXAMPLES_KIND, store(task, TASK_SCHEMA, "train.parquet")),
        pool=made(run / "pool", EXCHANGE_KIND, store(pool, EXCHANGE_SCHEMA, "kept/0.parquet")),
        models=models,
        new_tokens=(),
    )


def test_held_out_rows_are_those_no_arm_was_trained_on_and_no_query_keeps_its_answer(subjects: Subjects) -> None:
    mixtures = [subjects.of(arm, "mixed", MIXED_KIND) for arm in subjects.ratios]
    rows = choose_rows(CONFIG.model_copy(update={"held_out": 20}), subjects.pool, subjects.rewritten, mixtures, subjects.start.data)
    assert {messages[0]["content"] for messages, _ in rows.held_out} == {f"What is {n}?" for n in range(8, 16)}
    for own, foreign in zip(rows.pool, rows.foreign, strict=True):
        assert own["messages"][0] == foreign["messages"][0] and own["messages"][1] != foreign["messages"][1]


def test_a_file_of_foreign_answers_stands_in_for_shuffled_ones(subjects: Subjects, tmp_path: Path) -> None:
    file = tmp_path / "others.csv"
    file.write_text("query,reference\n" + "".join(f"Who is {n}?,Nobody {n}.\n" for n in range(5)))
    rows = choose_rows(CONFIG.model_copy(update={"foreign": file}), subjects.pool, subjects.rewritten, [], subjects.start.data)
    assert sorted(rows.queries) == [f"Who is {n}?" for n in range(5)]
    assert {example["messages"][1]["content"] for example in rows.foreign} == {f"Nobody {n}." for n in range(5)}
    file.write_text("query,reference\nWho?,Me\n")
    with pytest.raises(UserError, match=r"probe\.foreign: .* has 1 rows"):
        choose_rows(CONFIG.model_copy(update={"foreign": file}), subjects.pool, subjects.rewritten, [], subjects.start.data)


def test_a_run_is_probed_once_and_its_page_says_what_was_found(subjects: Subjects, local_ray: None, engine: Engine, tmp_path: Path) -> None:
    line, origin = QuietLine(), Provenance(None, ["pytest"])

    def probe() -> tuple[Artifact, Artifact]:
        measured = measure(CONFIG, subjects, TrainWorkers(), engine, lambda: None, line, tmp_path / "gradients", origin)
        return measured, conclude(ScoreConfig(), ("format",), subjects, measured, render_probe, tmp_path / "probe", origin)

    measured, found = probe()
    assert line.counted == line.total
    assert [again.manifest.created_at for again in probe()] == [measured.manifest.created_at, found.manifest.created_at]
    told = json.loads((found.data / "probe.json").read_text())
    norms, updates = told["measured"]["norms"], told["measured"]["updates"]
    assert norms["own"]["corrected"]["low"] == 0 < norms["foreign"]["corrected"]["low"]
    assert updates["it"]["chosen"] == pytest.approx(10 * updates["delia"]["chosen"], rel=0.01)
    for update in updates.values():
        assert 0 < update["along"]["value"] < update["chosen"] == pytest.approx(update["whole"])
    outcomes = {key: each["outcome"] for key, each in told["predictions"].items()}
    assert (outcomes["P1"], outcomes["P4"], outcomes["P5"]) == ("holds", "holds", "not measured")
    page = (found.data / "index.html").read_text()
    assert all(f"{key} {outcome}." in page for key, outcome in outcomes.items())


def test_weights_that_are_not_there_are_refused_by_name(subjects: Subjects, local_ray: None, engine: Engine, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"parameters": ("*.qq_proj.weight",)})
    with pytest.raises(UserError, match=r"probe\.parameters: no weight is called like \*\.qq_proj\.weight"):
        measure(config, subjects, TrainWorkers(), engine, lambda: None, QuietLine(), tmp_path / "g", Provenance(None, ["pytest"]))
    assert not (tmp_path / "g").exists()
