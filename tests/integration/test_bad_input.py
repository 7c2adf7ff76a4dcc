"""What a user can get wrong: one line that names it, exit code 2, nothing written."""

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from filelock import FileLock

from delia_ray.cli.main import main
from delia_ray.core.artifacts import Artifact
from delia_ray.core.errors import UserError
from delia_ray.lm_eval.config import LmEval
from delia_ray.lm_eval.stage import check_lm_eval
from delia_ray.placement import LmEvalProcess

GOOD = json.dumps({"messages": [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}]})
NO_ROLE = json.dumps({"messages": [{"content": "2 + 2?"}, {"role": "assistant", "content": "4"}]})


def delia(*argv: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "delia_ray", *argv], cwd=cwd, capture_output=True, text=True, timeout=300, check=False)


def assert_refused(done: subprocess.CompletedProcess[str], *named: str) -> None:
    shown = done.stdout + done.stderr
    assert done.returncode == 2, shown
    assert done.stderr.count("\n") == 1 and "Traceback" not in shown, shown
    for text in named:
        assert text in done.stderr, shown


class Here:
    """``delia`` in this process and folder: it has loaded what a new process needs ten seconds for."""

    def __init__(self, folder: Path, capture: pytest.CaptureFixture[str]):
        self.folder = folder
        self._capture = capture

    def refuses(self, *argv: str, named: Sequence[str]) -> None:
        before = set(self.folder.iterdir())
        assert main(argv) == 2
        assert set(self.folder.iterdir()) == before or finished(self.folder), "nothing is left but what is finished"
        shown = self._capture.readouterr().err
        assert shown.startswith("delia: ") and shown.count("\n") == 1 and all(text in shown for text in named), shown


@pytest.fixture
def here(rows: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Here:
    monkeypatch.chdir(rows)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # which a verb replaces
    return Here(rows, capsys)


def finished(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("manifest.json"))


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    for name in ("train", "test"):
        (tmp_path / f"{name}.jsonl").write_text(GOOD + "\n")
    return tmp_path


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("mix.ratoi=3", ["mix.ratoi", "unknown key"]),
        ("mix.ratio=-1", ["mix.ratio", "must be at least 0", "'-1'"]),
        ("finetune.global_batch_size=many", ["finetune.global_batch_size", "'many'"]),
        ("run.name=a b", ["run.name"]),
        ("mix", ["'mix'", "KEY=VALUE"]),
        ("task={kind: messages, train: a, test: b, metric: exact}", ["task.metric: ", "'exact'", "exact_match", "module:function"]),
    ],
)
def test_a_bad_setting_is_named_before_anything_is_written(tmp_path: Path, override: str, named: list[str]):
    assert_refused(delia("run", "run.name=r", override, cwd=tmp_path), *named)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (GOOD + "\n{broken\n", ["train.jsonl line 2", "not valid JSON"]),
        (NO_ROLE, ["train.jsonl line 1", "role is None"]),
        ("", ["train.jsonl is empty"]),
    ],
    ids=["malformed line", "missing role", "empty file"],
)
def test_a_bad_row_is_named_by_file_and_line(here: Here, tiny_models: dict[str, Artifact], content: str, named: list[str]):
    (here.folder / "train.jsonl").write_text(content)
    task = "task={kind: messages, train: train.jsonl, test: test.jsonl}"
    here.refuses("run", "run.name=r", f"model={tiny_models['one'].data}", task, named=named)
    assert finished(here.folder) == []


@pytest.mark.parametrize(
    ("metric", "named"),
    [
        ("scores:close", ["scores:close", "no module 'scores'"]),
        ("judge:far", ["judge has no function 'far'", "near"]),
        ("judge:near", ["judge:near gave 4", "test row 1"]),
        ("json_match", ["'{broken' is not JSON"]),
    ],
    ids=["no module", "no function", "no share", "no JSON"],
)
def test_a_metric_that_cannot_be_taken_is_refused_before_any_model_is_tuned(
    here: Here, tiny_models: dict[str, Artifact], metric: str, named: list[str]
):
    (here.folder / "judge.py").write_text("def near(output, reference):\n    return 4\n")
    (here.folder / "test.jsonl").write_text(GOOD.replace('"4"', '"{broken"'))
    task = f"task={{kind: messages, train: train.jsonl, test: test.jsonl, metric: '{metric}'}}"
    here.refuses("run", "run.name=r", f"model={tiny_models['one'].data}", task, named=named)
    assert finished(here.folder) == []


def _without_tokenizer(model: Path) -> None:
    for file in model.glob("*token*"):
        file.unlink()


def _without_end_of_turn(model: Path) -> None:
    (model / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content }}{% endfor %}")


@pytest.mark.parametrize(
    ("spoil", "named"),
    [(_without_tokenizer, "has no tokenizer"), (_without_end_of_turn, "writes no special token after an answer")],
    ids=["no tokenizer", "no end of turn"],
)
def test_a_model_folder_that_cannot_be_tuned_is_refused(here: Here, tiny_models: dict[str, Artifact], spoil: object, named: str):
    model = here.folder / "model"
    shutil.copytree(tiny_models["one"].data, model)
    assert callable(spoil)
    spoil(model)
    here.refuses("run", "run.name=r", "model=./model", named=[named])
    assert finished(here.folder) == []


@pytest.mark.parametrize("key", ["finetune", "arms.delia"])
def test_an_adapter_that_no_layer_can_carry_is_refused_before_anything_is_built(here: Here, tiny_models: dict[str, Artifact], key: str):
    words = ("run", "run.name=r", f"model={tiny_models['one'].data}", f"{key}.parameters={{kind: lora, targets: [q_prjo]}}")
    here.refuses(*words, named=[f"{key}.parameters.targets: ", "q_prjo", "the model has", "q_proj"])
    assert finished(here.folder) == []


def test_a_model_that_is_nowhere_is_refused(tmp_path: Path):
    assert_refused(delia("run", "run.name=r", "model=./none", cwd=tmp_path), "there is no folder ./none")


def test_a_run_folder_that_cannot_be_written_is_refused(tmp_path: Path):
    assert_refused(delia("run", "run.name=r", "run.root=/proc/none", cwd=tmp_path), "run.root", "/proc/none")


def test_a_run_folder_that_another_process_works_on_is_refused(tmp_path: Path):
    (tmp_path / "runs/r").mkdir(parents=True)
    with FileLock(tmp_path / "runs/r/.lock"):
        assert_refused(delia("run", "run.name=r", cwd=tmp_path), "another process is working on runs/r")


def test_an_occupied_port_is_refused_before_any_model_is_tuned(here: Here, tiny_models: dict[str, Artifact]):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        words = ("run", "run.name=r", f"model={tiny_models['one'].data}", f"placement.serve.port={port}")
        here.refuses(*words, named=["placement.serve.port", str(port)])
    assert finished(here.folder) == []


def test_one_changed_field_under_the_same_name_is_refused_and_named(local_ray: None, here: Here, tiny_models: dict[str, Artifact]):
    given = ["run.name=r", f"model={tiny_models['one'].data}", "task.train=4", "task.dev=2", "task.test=4"]
    assert main(["rewrite", *given]) == 0
    here.refuses("rewrite", *given, "task.seed=1", named=["request.task.seed: 0 -> 1", "run.name="])
    assert main(["rewrite", *given, "task.seed=1", "run.name=other"]) == 0


@pytest.mark.parametrize(
    ("subject", "override", "named"),
    [
        (["color"], "mix.ratio=1", ["probe: found 'color'; name gradients or tokens"]),
        (["tokens"], "task.token=<note>", ["probe.tokens.concepts: name the words that <note> should come to mean"]),
        (["tokens"], "probe.tokens.concepts=[yes]", ["probe.tokens.concepts[0]", "found True"]),
        (["tokens"], "mix.ratio=1", ["task.token: found null"]),
    ],
)
def test_a_probe_that_cannot_be_made_is_refused_before_anything_is_trained(
    here: Here, tiny_models: dict[str, Artifact], subject: list[str], override: str, named: list[str]
):
    task = ["task.kind=messages", "task.train=train.jsonl", "task.test=test.jsonl"]
    for file in (here.folder / "train.jsonl", here.folder / "test.jsonl"):
        file.write_text(file.read_text().replace('"content": "', '"content": "<note> ', 1))
    here.refuses("probe", *subject, "run.name=r", f"model={tiny_models['one'].data}", *task, override, named=named)
    assert finished(here.folder) == []


@pytest.mark.parametrize(
    ("override", "named", "left"),
    [
        ("experiment.choose=selectivity", ["experiment.choose: 'selectivity' is not measured", "exact_match"], []),
        ("experiment.choose=exact_match", ["experiment.learning_rates", "no dev rows"], ["runs/r/task/manifest.json"]),
    ],
)
def test_an_experiment_that_could_not_choose_is_refused_before_anything_is_trained(
    here: Here, tiny_models: dict[str, Artifact], override: str, named: list[str], left: list[str]
):
    task = ["task.kind=messages", "task.train=train.jsonl", "task.test=test.jsonl", "decontaminate=null"]
    grid = "experiment.learning_rates=[1e-4, 2e-4]"
    here.refuses("experiment", "run.name=r", f"model={tiny_models['one'].data}", *task, grid, override, named=named)
    assert finished(here.folder) == left


@pytest.mark.parametrize(("command", "answer"), [("--help", "reproduce"), ("keys", "mix.ratio"), ("keys finetune", "learning_rate")])
def test_help_answers_at_once(tmp_path: Path, command: str, answer: str):
    done, loaded = _loading(tmp_path, *command.split())
    assert answer in done.stdout
    assert not loaded & {"ray", "torch", "transformers", "vllm", "deepspeed"}


def test_a_run_is_refused_before_anything_heavy_is_loaded(tmp_path: Path):
    done, loaded = _loading(tmp_path, "run", "run.name=r", "model=nowhere")
    assert done.returncode == 2 and "model: " in done.stderr
    assert not loaded & {"torch", "transformers", "vllm", "deepspeed"}


def _loading(folder: Path, *args: str) -> tuple[subprocess.CompletedProcess[str], set[str]]:
    """What ``delia`` says, and the modules it loaded."""
    command = [sys.executable, "-X", "importtime", "-m", "delia_ray", *args]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, check=False)
    return done, {line.rsplit("|", 1)[-1].strip() for line in done.stderr.splitlines()}


def test_a_task_that_lm_eval_does_not_know_is_refused_by_name():
    with pytest.raises(UserError, match=r"lm_eval\.tasks: .*Tasks not found: no_such_task"):
        check_lm_eval(LmEval(tasks=("no_such_task",)), LmEvalProcess())
