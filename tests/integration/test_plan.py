"""``delia plan``: what it says of a run before the run starts, and what it leaves alone."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from delia_ray.cli.main import main
from delia_ray.core.artifacts import Artifact
from delia_ray.core.config import build_config
from delia_ray.core.records import Example
from delia_ray.models import ModelFolder, get_tokenizer
from delia_ray.pipeline.plan.lengths import measure_lengths
from delia_ray.pipeline.plan.plan import make_plan
from delia_ray.pipeline.run import Run
from delia_ray.settings import Settings
from delia_ray.training.config import FinetuneConfig
from delia_ray.training.data.tokens import tokenize

TINY = Path(__file__).parents[2] / "jobs/configs/tiny.yaml"
NO_RAY = """
import sys
from delia_ray.cli.main import main
code = main(sys.argv[1:])
import ray
print(code, ray.is_initialized(), "vllm" in sys.modules, file=sys.stderr)
"""


class Planner:
    """``delia plan`` on the smallest config and a tiny model."""

    def __init__(self, root: Path, model: Path, capture: pytest.CaptureFixture[str]):
        self.root = root
        self.words = ["--config", str(TINY), f"run.root={root}", f"model={model}"]
        self._capture = capture

    def plan(self, *overrides: str) -> tuple[int, str]:
        code = main(["plan", *self.words, *overrides])
        return code, self._capture.readouterr().out

    def settings(self, *overrides: str) -> Settings:
        return build_config(Settings, [TINY], [*self.words[2:], *overrides])


@pytest.fixture
def planner(tmp_path: Path, tiny_models: dict[str, Artifact], capsys: pytest.CaptureFixture[str]) -> Planner:
    return Planner(tmp_path / "runs", tiny_models["one"].data, capsys)


@pytest.fixture(scope="module")
def task_run(tmp_path_factory: pytest.TempPathFactory, tiny_models: dict[str, Artifact]) -> Iterator[Path]:
    """The folder of all runs, in which a run has its first steps finished."""
    root = tmp_path_factory.mktemp("begun")
    with Run.open(build_config(Settings, [TINY], [f"run.root={root}", f"model={tiny_models['one'].data}"])) as run:
        assert run.task and run.base and run.rewritten
        yield root


def unwrap(shown: str) -> str:
    return " ".join(shown.split())


def snapshot(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_every_mistake_is_named_at_once_and_the_rest_is_shown(planner: Planner, tmp_path: Path):
    (tmp_path / "file").write_text("")
    cache, rows = f"placement.cache={tmp_path / 'file' / 'deeper'}", "mix.task_rows=99"
    code, shown = planner.plan("model=./nowhere", cache, rows)
    assert code == 2
    for named in ("model: there is no folder ./nowhere", "placement.cache: ", "mix.task_rows=99"):
        assert named in unwrap(shown)
    assert "3 errors" in shown and "task: 4 train, 2 dev, 4 test" in shown


def test_without_mistakes_it_shows_steps_rows_memory_and_a_row(planner: Planner):
    code, shown = planner.plan()
    assert code == 0 and "none found" in shown
    for part in ("steps", "rows", "memory", "a training row of the task"):
        assert f"\n{part}\n" in shown
    assert "arms/delia/checkpoint" in shown and "lm_eval" not in shown and "experiment" not in shown
    assert not planner.root.exists()


def test_the_plan_fits_80_columns_and_is_plain_where_it_is_piped(planner: Planner):
    _, shown = planner.plan()
    assert [line for line in shown.splitlines() if len(line) > 80 or line != line.rstrip()] == []
    assert "\x1b" not in shown


def test_neither_ray_nor_vllm_is_started_and_nothing_is_written(planner: Planner, tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-c", NO_RAY, "plan", *planner.words], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=300
    )
    assert done.stderr.splitlines()[-1] == "0 False False"
    assert list(tmp_path.iterdir()) == []


def test_a_finished_step_is_shown_as_finished_and_left_as_it_is(planner: Planner, task_run: Path):
    before = snapshot(task_run)
    code, shown = planner.plan(f"run.root={task_run}")
    steps = {line.split()[1]: " ".join(line.split()[2:]) for line in shown.splitlines() if line.startswith(("  ✓", "  ·", "  ✗", "  ?"))}
    assert code == 0
    assert {name for name, state in steps.items() if state == "finished"} == {"task", "base", "rewritten"}
    assert steps["queries"] == steps["report"] == "to do"
    assert snapshot(task_run) == before


def test_a_step_of_another_request_is_stale_and_a_mistake(planner: Planner, task_run: Path):
    before = snapshot(task_run)
    code, shown = planner.plan(f"run.root={task_run}", "task.test=6")
    assert code == 2
    assert "request.task.test: 4 -> 6" in unwrap(shown) and "✗ task" in shown
    assert "? rewritten" in shown and "✓ base" in shown
    assert snapshot(task_run) == before


def test_the_steps_of_an_arm_are_those_that_are_trained(planner: Planner):
    settings = planner.settings("finetune.epochs=2", "arms.small={ratio: 1, task_rows: 2, steps: own}")
    plan = make_plan(settings)
    arms = {arm.name: arm for arm in plan.arms}
    assert (arms["delia"].task_rows, arms["delia"].diverse_rows, arms["delia"].steps) == (4, 8, 6)
    assert (arms["sft"].diverse_rows, arms["sft"].steps) == (0, arms["delia"].steps)
    assert (arms["small"].task_rows, arms["small"].diverse_rows, arms["small"].steps) == (2, 2, 2)
    assert [pool.needed for pool in plan.pools] == [8]


def test_the_row_is_shown_with_what_is_masked_in_brackets(planner: Planner):
    sample = make_plan(planner.settings()).sample
    _, shown = planner.plan()
    assert [segment.is_supervised for segment in sample] == [False, True]
    assert "<sep>" in sample[0].text and sample[1].text.startswith('{"thought"') and sample[1].text.endswith("<|im_end|>")
    row = unwrap(shown.rpartition("what is learned")[2])
    assert row.startswith("[<|im_start|>") and f"]{unwrap(sample[1].text)}" in row


def test_with_whole_conversations_only_the_first_token_is_masked(planner: Planner):
    sample = make_plan(planner.settings("finetune.train_on=conversation")).sample
    assert [segment.is_supervised for segment in sample] == [False, True]
    assert sample[0].text == "<|im_start|>"


def test_a_row_that_is_too_long_is_named_before_anything_is_built(planner: Planner):
    code, shown = planner.plan("finetune.max_seq_len=60")
    assert code == 2 and "task.train row 1 has " in unwrap(shown) and "finetune.max_seq_len=60 (3 more are too long)" in unwrap(shown)
    code, _ = planner.plan("finetune.max_seq_len=60", "finetune.long_rows=truncate")
    assert code == 0


def test_too_few_queries_for_the_mixture_are_named(planner: Planner):
    code, shown = planner.plan("mix.ratio=5")
    assert code == 2 and "16 queries give at most 16 diverse rows, and the pool needs 20" in unwrap(shown)


def test_the_tokens_of_diverse_rows_lie_between_the_bounds(planner: Planner, tiny_models: dict[str, Artifact]):
    model = tiny_models["one"]
    tokenizer = get_tokenizer(ModelFolder(model.data, model.fingerprint))
    settings = planner.settings()

    def tokenized(query: str, answer: str) -> int:
        messages = [{"role": "user", "content": query}, {"role": "assistant", "content": answer}]
        example: Example = {"example_id": "", "group": "diverse", "messages": messages, "label": None}  # pyright: ignore[reportAssignmentType]
        return len(tokenize(tokenizer, [example], "answer")[0].ids)

    task = tokenize(tokenizer, [{"example_id": "", "group": "task", "label": None, "messages": [
        {"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}]}], "answer")  # fmt: skip
    bounds = measure_lengths(tokenizer, task, settings, "diverse", FinetuneConfig()).diverse
    word = " fox"
    assert len(tokenizer(word)["input_ids"]) == 1
    assert bounds.low == tokenized("a", "b")
    assert bounds.high == tokenized(("a" + word * 15), "b" + word * 15), "queries and answers of 16 tokens"


@pytest.mark.parametrize("rows", [["arms.mine={targets: own, wordings: original}"], ["pools={other: {}}", "arms.mine={pool: other}"]])
def test_steps_that_only_some_settings_need_are_shown_for_them(planner: Planner, rows: list[str]):
    roles = {state.role for state in make_plan(planner.settings(*rows)).states}
    asked = {"original", "distilled/original"} if "targets" in rows[0] else {"pools/other/queries", "pools/other/clean"}
    assert asked <= roles
    assert not asked & {state.role for state in make_plan(planner.settings()).states}


def test_your_own_rows_are_planned_too(planner: Planner, tmp_path: Path):
    row = json.dumps({"messages": [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}]})
    for name, count in (("train", 3), ("test", 2)):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(row.replace("2?", f"{name} {n}?") for n in range(count)) + "\n")
    task = f"task={{kind: messages, train: {tmp_path}/train.jsonl, test: {tmp_path}/test.jsonl}}"
    code, shown = planner.plan(task, "rewrite=null", "decontaminate=null")
    assert code == 0, shown
    assert "task: 3 train, 0 dev, 2 test" in shown


def test_what_does_not_fit_a_gpu_is_named_with_what_it_takes(planner: Planner):
    words = ("synthesize.engine={kind: vllm}", "placement.finetune.num_gpus=1", "placement.serve.num_gpus=1", "finetune.precision=bfloat16")
    _, shown = planner.plan(*words, "placement.gpu_memory_gib=0.9")
    assert "placement.finetune: a training worker of sft, delia takes " in unwrap(shown)
    assert "placement.serve: an engine takes " in unwrap(shown)
    code, shown = planner.plan(*words, "placement.gpu_memory_gib=40")
    assert code == 0, shown
    shared = ("placement.serve.num_gpus=0.3", "placement.engine.gpu_memory_utilization=0.25", "placement.gpu_memory_gib=8")
    code, shown = planner.plan(*words, *shared)
    assert code == 0, "a share that is named is one of the whole GPU, whatever part of it is reserved"


def test_rows_and_answers_that_are_longer_than_the_models_context_are_named(planner: Planner):
    code, shown = planner.plan("finetune.max_seq_len=2044")
    assert (
        code == 2 and "finetune.max_seq_len: rows of 2044 tokens and answers of 8" in unwrap(shown) and "context of 2048" in unwrap(shown)
    )
