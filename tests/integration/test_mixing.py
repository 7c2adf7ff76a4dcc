import json
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from delia_ray.cli.terminal import Terminal
from delia_ray.core.artifacts import Artifact, Counts, Provenance, Workspace, build_once
from delia_ray.core.config import Config, build_config
from delia_ray.core.errors import UserError
from delia_ray.core.records import EXAMPLE_SCHEMA, EXAMPLES_KIND, EXCHANGE_KIND, EXCHANGE_SCHEMA, Message
from delia_ray.evaluation.client import Asking
from delia_ray.mixing.config import MixConfig
from delia_ray.mixing.stage import mix
from delia_ray.pipeline import chain, run_context
from delia_ray.pipeline.run import Run
from delia_ray.settings import Settings

TINY = Path(__file__).parents[2] / "jobs/configs/tiny.yaml"
PROVENANCE = Provenance(None, ["pytest"])
TASK_ROWS, POOL_ROWS = 10, 64


class BlocksRequest(Config):
    files: int


def _make_artifact(out: Path, kind: str, counts: dict[str, int], tables: dict[str, pa.Table]) -> Artifact:
    def write(workspace: Workspace) -> Counts:
        for name, table in tables.items():
            (workspace.data / name).parent.mkdir(exist_ok=True, parents=True)
            pq.write_table(table, workspace.data / name)
        return counts

    return build_once(
        out, stage="given/1", kind=kind, request=BlocksRequest(files=len(tables)), inputs={}, provenance=PROVENANCE, write=write
    )


@pytest.fixture
def task(tmp_path: Path) -> Artifact:
    rows = [
        {
            "example_id": f"t{n}",
            "group": "task",
            "label": None,
            "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}],
        }
        for n in range(TASK_ROWS)
    ]
    table = pa.Table.from_pylist(rows, schema=EXAMPLE_SCHEMA)
    return _make_artifact(tmp_path / "task", EXAMPLES_KIND, {"train": TASK_ROWS}, {"train.parquet": table})


def make_pool(out: Path, files: int) -> Artifact:
    rows = [
        {"exchange_id": f"d{n}", "topic": "x", "query": f"q{n}", "answer": f"a{n}", "prompt_tokens": 1, "answer_tokens": 1}
        for n in range(POOL_ROWS)
    ]
    parts = {f"kept/{n}.parquet": pa.Table.from_pylist(rows[n::files], schema=EXCHANGE_SCHEMA) for n in range(files)}
    return _make_artifact(out, EXCHANGE_KIND, {"rows": POOL_ROWS}, parts)


def read_ordered(mixed: Artifact) -> list[dict[str, object]]:
    return pq.read_table(mixed.data).sort_by("order_key").to_pylist()


def test_the_mixture_is_the_same_to_the_bit_at_any_number_of_blocks(local_ray: None, tmp_path: Path, task: Artifact):
    config = MixConfig(ratio=3, seed=5)
    mixtures = [
        read_ordered(
            mix(config, task, make_pool(tmp_path / f"pool{files}", files), lambda _=None: None, tmp_path / f"mixed{files}", PROVENANCE)
        )
        for files in (1, 2, 8)
    ]
    assert json.dumps(mixtures[0]) == json.dumps(mixtures[1]) == json.dumps(mixtures[2])
    assert len(mixtures[0]) == TASK_ROWS * 4
    groups = [str(row["group"]) for row in mixtures[0]]
    assert groups != sorted(groups) and groups != sorted(groups, reverse=True)


def test_a_smaller_ratio_is_contained_in_a_larger_one(local_ray: None, tmp_path: Path, task: Artifact):
    samples = []
    for ratio in (0, 1.5, 4):
        mixed = mix(
            MixConfig(ratio=ratio),
            task,
            make_pool(tmp_path / f"pool{ratio}", 2),
            lambda _=None: None,
            tmp_path / f"mixed{ratio}",
            PROVENANCE,
        )
        samples.append({row["example_id"] for row in read_ordered(mixed)})
        assert mixed.manifest.counts["diverse"] == int(ratio * TASK_ROWS)
    assert samples[0] < samples[1] < samples[2]


def test_a_pool_that_is_too_small_is_an_error_that_says_how_many_rows_are_missing(tmp_path: Path, task: Artifact):
    with pytest.raises(UserError, match=r"mix\.ratio=7 needs 70 diverse rows, but the pool holds 64: 6 are missing"):
        mix(MixConfig(ratio=7), task, make_pool(tmp_path / "pool", 1), lambda _=None: None, tmp_path / "mixed", PROVENANCE)
    assert not (tmp_path / "mixed").exists()


def test_a_pool_that_one_arm_finds_too_small_is_refused_before_any_arm_is_mixed(
    tmp_path: Path, tiny_models: dict[str, Artifact], local_ray: None
):
    overrides = [f"run.root={tmp_path}", f"model={tiny_models['one'].data}", "synthesize.queries.rows=4"]
    settings = build_config(Settings, [TINY], overrides)
    with (tmp_path / "terminal.txt").open("w") as stream, Run(settings, Terminal(stream), PROVENANCE) as run:
        with pytest.raises(UserError, match=r"needs 8 diverse rows, but the pool holds \d: \d are missing"):
            run.prepare()
    assert not (settings.run.path / "arms").exists()


def test_an_arm_with_its_own_targets_learns_those_that_still_do_the_task(
    tmp_path: Path, tiny_models: dict[str, Artifact], local_ray: None, monkeypatch: pytest.MonkeyPatch
):
    def answer(asking: Asking, conversations: Sequence[list[Message]], max_tokens: int) -> list[str]:
        targets = [messages[-1]["content"].rpartition("\n")[2] for messages in conversations]
        return [json.dumps({**json.loads(target), "thought": "Mine."}) for target in targets[:-1]] + ["I do not know."]

    monkeypatch.setattr(chain, "answer_conversations", answer)
    monkeypatch.setattr(chain.Chain, "endpoint", lambda *_: "http://127.0.0.1:9/v1")
    overrides = [
        f"run.root={tmp_path}",
        f"model={tiny_models['one'].data}",
        "arms={sft: null, delia: null, sdft: {ratio: 0, targets: own}}",
    ]
    with (tmp_path / "terminal.txt").open("w") as stream:
        with Run(build_config(Settings, [TINY], overrides), Terminal(stream), PROVENANCE) as run:
            mixed, rewritten = run.mixed("sdft"), pq.read_table(run.rewritten.data / "train.parquet").to_pylist()
    targets = {row["example_id"]: row["messages"][-1]["content"] for row in pq.read_table(mixed.data).to_pylist()}
    own = [json.loads(targets[row["example_id"]])["thought"] == "Mine." for row in rewritten]
    assert own == [True] * (len(rewritten) - 1) + [False]
    assert targets[rewritten[-1]["example_id"]] == rewritten[-1]["messages"][-1]["content"]
    assert (
        "targets" in (text := (tmp_path / "terminal.txt").read_text())
        and f"{len(rewritten) - 1} of {len(rewritten)} in the model's own" in text
    )


def test_an_endpoint_that_is_still_open_is_closed_before_a_model_is_trained(
    tmp_path: Path, tiny_models: dict[str, Artifact], local_ray: None, monkeypatch: pytest.MonkeyPatch
):
    events: list[str] = []

    @contextmanager
    def open_endpoint(*_: object) -> Generator[str]:
        events.append("opened")
        yield "http://127.0.0.1:9/v1"
        events.append("closed")

    def finetune(request: object, base: object, mixed: object, workers: object, begin: Callable[[], None], *_: object) -> None:
        begin()
        events.append("trained")

    monkeypatch.setattr(run_context, "open_endpoint", open_endpoint)
    monkeypatch.setattr(chain, "finetune", finetune)
    settings = build_config(Settings, [TINY], [f"run.root={tmp_path}", f"model={tiny_models['one'].data}"])
    with (tmp_path / "terminal.txt").open("w") as stream, Run(settings, Terminal(stream), PROVENANCE) as run:
        run.endpoint({"base": run.base})
        run.checkpoint("sft")
        assert events == ["opened", "closed", "trained"]
        run.endpoint({"base": run.base})
    assert events == ["opened", "closed", "trained", "opened", "closed"]
