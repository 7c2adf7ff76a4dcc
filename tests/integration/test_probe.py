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

from delia_ray.core.artifacts import MODEL_KIND, Artifact, Counts, Provenance, Workspace, build_once
from delia_ray.core.config import Config
from delia_ray.core.errors import UserError
from delia_ray.core.progress import CountReader
from delia_ray.core.records import EXAMPLES_KIND, EXCHANGE_KIND, EXCHANGE_SCHEMA, MIXED_KIND, MIXED_SCHEMA, TASK_SCHEMA
from delia_ray.evaluation.client import LocalTally
from delia_ray.evaluation.config import ScoreConfig
from delia_ray.models import load_model, load_tokenizer, render_prompt, save_model
from delia_ray.placement import Engine, TrainWorkers
from delia_ray.probing.config import ProbeConfig
from delia_ray.probing.gradients.causal_lm import FunctionalCausalLM, sample_answers
from delia_ray.probing.gradients.coordinates import Coordinates, select_weights
from delia_ray.probing.gradients.fisher import fisher_product
from delia_ray.probing.gradients.gradients import row_gradient, row_gradients
from delia_ray.probing.gradients.rows import choose_rows
from delia_ray.probing.gradients.stage import ProbedRun, measure_gradients, report_predictions
from delia_ray.reporting.pages.probe_page import render_probe
from delia_ray.training.config import FinetuneConfig
from delia_ray.training.data.tokens import TokenizedRow
from delia_ray.training.model import build_trainable, merge_trained, save_trained
from delia_ray.training.stage import CHECKPOINT_KIND

CONFIG = ProbeConfig(
    rows=6, answer_tokens=8, coordinates=4000, step_lengths=(1e-3, 1e-2), fisher_rows=4, eigenvectors=2, iterations=5, held_out=8,
    resamples=1000,
)  # fmt: skip
ROW = TokenizedRow([5, 9, 300, 17, 2], [0, 0, 1, 1, 4], "diverse")


class QuietLine:
    @contextmanager
    def track(self, counter: CountReader, total: int, unit: str) -> Generator[None]:
        yield
        self.counted, self.total = counter.read()[0], total

    def set_status(self, text: str) -> None: ...


class CheckpointRequest(Config):
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
    weights, model = (
        select_weights(double, ["*.layers.?.self_attn.k_proj.weight", "*.layers.0.mlp.up_proj.weight"]),
        FunctionalCausalLM(double),
    )
    generator = torch.Generator().manual_seed(3)
    tangents = {name: torch.randn(weight.shape, generator=generator, dtype=torch.float64) for name, weight in weights.items()}
    product = fisher_product(model, weights, ROW, tangents)
    variables = {name: weight.detach().requires_grad_() for name, weight in weights.items()}
    logits_TV = model.logits(variables, ROW)
    dummy_TV = torch.zeros_like(logits_TV, requires_grad=True)
    vjp = torch.autograd.grad(logits_TV, list(variables.values()), dummy_TV, create_graph=True)
    along = sum(((part * tangents[name]).sum() for name, part in zip(variables, vjp, strict=True)), torch.zeros(()))
    (jvp_TV,) = torch.autograd.grad(along, dummy_TV, retain_graph=True)
    probability_TV = logits_TV.softmax(-1).detach()
    product_TV = probability_TV * (jvp_TV - (probability_TV * jvp_TV).sum(-1, keepdim=True))
    expected = torch.autograd.grad(logits_TV, list(variables.values()), product_TV)
    for name, part in zip(variables, expected, strict=True):
        torch.testing.assert_close(product[name], part, rtol=1e-4, atol=1e-6 * float(part.abs().max()))
        assert float(part.norm()) > 0


def test_a_rows_gradient_is_that_of_its_summed_loss(small: Any) -> None:
    weights, model = select_weights(small, "all-linear"), FunctionalCausalLM(small)
    gradient = row_gradient(model, weights, ROW)
    small.zero_grad()
    small.requires_grad_(True)
    labels = torch.tensor([[-100, -100, 300, 17, 2]])
    (small(input_ids=torch.tensor([ROW.ids]), labels=labels).loss * 3).backward()
    for name, weight in small.named_parameters():
        if name in weights:
            torch.testing.assert_close(gradient[name], weight.grad, rtol=1e-3, atol=1e-5)
    assert "lm_head.weight" not in weights and len(weights) == 14


def test_answers_drawn_at_temperature_one_have_the_models_own_distribution(small: Any, tiny_models: dict[str, Artifact]) -> None:
    """Its own answers' mean log-probability is minus the entropy, position by position; and drawing again gives the same."""
    tokenizer = load_tokenizer(tiny_models["one"].data)
    prompt = tokenizer(render_prompt(tokenizer, [{"role": "user", "content": "Hi"}]))["input_ids"]
    rows = sample_answers(small, [prompt] * 64 + [prompt[:3]] * 16, 4, 2, 0, LocalTally())
    assert sample_answers(small, [prompt] * 64 + [prompt[:3]] * 16, 4, 2, 0, LocalTally()) == rows
    model, gaps = FunctionalCausalLM(small), list[float]()
    for row in rows:
        with torch.no_grad():
            logs_TV = model.logits({}, row).log_softmax(-1)
        entropy = float(-(logs_TV.exp() * logs_TV).sum())
        gaps.append(float(logs_TV.gather(1, model.targets(row)[:, None]).sum()) + entropy)
    assert abs(np.mean(gaps)) < 3 * np.std(gaps) / len(gaps) ** 0.5


def test_a_sample_of_the_coordinates_gives_the_norms_of_all(small: Any) -> None:
    weights, model = select_weights(small, "all-linear"), FunctionalCausalLM(small)
    rows = [TokenizedRow([7, number, 40 + number, 2], [0, 0, 1, 4], "diverse") for number in range(6)]
    full, sampled = Coordinates(weights, None, 0), Coordinates(weights, 8000, 0)
    (full_NS, _), (sampled_NS, _) = (row_gradients(model, weights, rows, each, LocalTally()) for each in (full, sampled))
    np.testing.assert_allclose(sampled_NS.norm(dim=1) / sampled.fraction**0.5, full_NS.norm(dim=1), rtol=0.2)


def make_artifact(folder: Path, kind: str, write: Any, inputs: Any = None, request: Config | None = None) -> Artifact:
    def fill(workspace: Workspace) -> Counts:
        return write(workspace.data) or {}

    request, provenance = request or CheckpointRequest(), Provenance(None, ["pytest"])
    return build_once(folder, stage="made/1", kind=kind, request=request, inputs=inputs or {}, provenance=provenance, write=fill)


def make_turns(query: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": query}, {"role": "assistant", "content": answer}]


def write_rows(rows: list[Any], schema: pa.Schema, name: str) -> Any:
    def write(data: Path) -> Counts:
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), data / name)
        return {"rows": len(rows)}

    return write


def write_adapter(base: Artifact, scale: float) -> Any:
    """Write a random LoRA adapter of size ``scale``."""

    def write(data: Path) -> None:
        trainable = build_trainable(base.data, (), FinetuneConfig(), torch.float32)
        torch.manual_seed(5)
        with torch.no_grad():
            for name, weight in trainable.model.named_parameters():
                if "lora_B" in name:
                    weight += scale * torch.randn_like(weight)
        save_trained(trainable, data / "trained")

    return write


def write_merged(base: Artifact, checkpoint: Artifact) -> Any:
    def write(data: Path) -> None:
        save_model(merge_trained(base.data, checkpoint.data / "trained", (), torch.float32), load_tokenizer(base.data), data)

    return write


@pytest.fixture(scope="module")
def probed_run(tiny_models: dict[str, Artifact], tmp_path_factory: pytest.TempPathFactory) -> ProbedRun:
    """A hand-made run: a pool of which eight rows are trained on, and two arms with a small and a large update."""
    run, base = tmp_path_factory.mktemp("run"), tiny_models["one"]
    pool: list[dict[str, Any]] = [
        {"exchange_id": f"e{n:02d}", "topic": "", "query": f"What is {n}?", "answer": f"It is {n + 1}."}
        | {"prompt_tokens": 9, "answer_tokens": 9}
        for n in range(16)
    ]
    shared = {"group": "diverse", "label": None}
    mixed = [
        shared | {"example_id": row["exchange_id"], "messages": make_turns(row["query"], row["answer"]), "order_key": n}
        for n, row in enumerate(pool[:8])
    ]
    task = [
        {"example_id": f"t{n}", "group": "task", "messages": make_turns(f"Judge {n}", "{}"), "label": None, "instruction": None}
        for n in range(5)
    ]
    models: dict[str, Artifact] = {"base": base}
    for arm, scale in (("sft", 0.05), ("delia", 0.005)):
        make_artifact(run / "arms" / arm / "mixed", MIXED_KIND, write_rows(mixed if arm == "delia" else [], MIXED_SCHEMA, "0.parquet"))
        checkpoint = make_artifact(run / "arms" / arm / "checkpoint", CHECKPOINT_KIND, write_adapter(base, scale))
        models[arm] = make_artifact(run / "arms" / arm / "model", MODEL_KIND, write_merged(base, checkpoint), {"checkpoint": checkpoint})
    return ProbedRun(
        folder=run,
        ratios={"sft": 0.0, "delia": 1.6},
        base=base,
        rewritten=make_artifact(run / "rewritten", EXAMPLES_KIND, write_rows(task, TASK_SCHEMA, "train.parquet")),
        pool=make_artifact(run / "pool", EXCHANGE_KIND, write_rows(pool, EXCHANGE_SCHEMA, "kept/0.parquet")),
        models=models,
        new_tokens=(),
    )


def test_held_out_rows_are_those_no_arm_was_trained_on_and_no_query_keeps_its_answer(probed_run: ProbedRun) -> None:
    mixtures = [probed_run.open_artifact(arm, "mixed", MIXED_KIND) for arm in probed_run.ratios]
    rows = choose_rows(CONFIG.model_copy(update={"held_out": 20}), probed_run.pool, probed_run.rewritten, mixtures, probed_run.base.data)
    assert {messages[0]["content"] for messages, _ in rows.held_out} == {f"What is {n}?" for n in range(8, 16)}
    for own, foreign in zip(rows.pool, rows.foreign, strict=True):
        assert own["messages"][0] == foreign["messages"][0] and own["messages"][1] != foreign["messages"][1]


def test_a_file_of_foreign_answers_replaces_shuffled_ones(probed_run: ProbedRun, tmp_path: Path) -> None:
    file = tmp_path / "others.csv"
    file.write_text("query,reference\n" + "".join(f"Who is {n}?,Nobody {n}.\n" for n in range(5)))
    rows = choose_rows(CONFIG.model_copy(update={"foreign": file}), probed_run.pool, probed_run.rewritten, [], probed_run.base.data)
    assert sorted(rows.queries) == [f"Who is {n}?" for n in range(5)]
    assert {example["messages"][1]["content"] for example in rows.foreign} == {f"Nobody {n}." for n in range(5)}
    file.write_text("query,reference\nWho?,Me\n")
    with pytest.raises(UserError, match=r"probe\.foreign: .* has 1 rows"):
        choose_rows(CONFIG.model_copy(update={"foreign": file}), probed_run.pool, probed_run.rewritten, [], probed_run.base.data)


def test_a_run_is_probed_once_and_its_page_says_what_was_found(
    probed_run: ProbedRun, local_ray: None, engine: Engine, tmp_path: Path
) -> None:
    line, provenance = QuietLine(), Provenance(None, ["pytest"])

    def probe() -> tuple[Artifact, Artifact]:
        gradients = measure_gradients(
            CONFIG, probed_run, TrainWorkers(), engine, lambda _=None: None, line, tmp_path / "gradients", provenance
        )
        return gradients, report_predictions(ScoreConfig(), ("format",), probed_run, gradients, tmp_path / "probe", provenance)

    gradients, report = probe()
    assert line.counted == line.total
    assert [again.manifest.created_at for again in probe()] == [gradients.manifest.created_at, report.manifest.created_at]
    content = json.loads((report.data / "probe.json").read_text())
    norms, updates = content["measured"]["norms"], content["measured"]["updates"]
    assert norms["own"]["corrected"]["low"] == 0 < norms["foreign"]["corrected"]["low"]
    assert updates["sft"]["chosen"] == pytest.approx(10 * updates["delia"]["chosen"], rel=0.01)
    for update in updates.values():
        assert 0 < update["along"]["value"] < update["chosen"] == pytest.approx(update["whole"])
    outcomes = {key: each["outcome"] for key, each in content["predictions"].items()}
    assert (outcomes["P1"], outcomes["P4"], outcomes["P5"]) == ("holds", "holds", "not measured")
    page = render_probe(report)["probe.html"]
    assert all(f"{key} {outcome}." in page for key, outcome in outcomes.items())


def test_weights_that_are_not_there_are_refused_by_name(probed_run: ProbedRun, local_ray: None, engine: Engine, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"parameters": ("*.qq_proj.weight",)})
    with pytest.raises(UserError, match=r"probe\.parameters: no weight is called like \*\.qq_proj\.weight"):
        measure_gradients(
            config, probed_run, TrainWorkers(), engine, lambda _=None: None, QuietLine(), tmp_path / "g", Provenance(None, ["pytest"])
        )
    assert not (tmp_path / "g").exists()
