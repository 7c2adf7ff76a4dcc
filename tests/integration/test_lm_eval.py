"""lm-eval over a live endpoint, before and after tuning: `make test-plugins`."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from delia_ray.core.artifacts import Artifact
from delia_ray.lm_eval.config import LmEval
from delia_ray.lm_eval.schema import LmEvalChanges
from delia_ray.lm_eval.stage import read_results
from delia_ray.pipeline.run import Run
from delia_ray.reporting.terminal_table import load_lm_eval_table

pytestmark = pytest.mark.plugins

TASK = """
task: capitals
dataset_path: json
dataset_kwargs: {{data_files: {{test: {rows}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "Question: {{{{question}}}} Answer:"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{answer}}}}"
metric_list:
  - {{metric: acc, aggregation: mean, higher_is_better: true}}
"""
ROWS = [
    {"question": f"What is the capital of {country}?", "choices": ["Paris", "Rome", "Oslo"], "answer": answer}
    for answer, country in enumerate(("France", "Italy", "Norway"))
]


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tasks")
    rows = folder / "rows.jsonl"
    rows.write_text("\n".join(map(json.dumps, ROWS)) + "\n")
    (folder / "capitals.yaml").write_text(TASK.format(rows=rows))
    return folder


@pytest.fixture
def lm_eval_run(tuned: Run, tasks: Path) -> Iterator[Run]:
    """The run of one arm, with an lm-eval task and a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        replicas = tuned.placement.serve.model_copy(update={"port": probe.getsockname()[1]})
    config = LmEval(tasks=("capitals",), include=tasks, max_length=256, resamples=1000)
    placement = tuned.placement.model_copy(update={"serve": replicas})
    settings = tuned.settings.model_copy(update={"lm_eval": config, "placement": placement})
    with Run(settings, tuned.progress, tuned.provenance) as run:
        yield run


def test_every_model_is_asked_every_item_of_the_users_own_task(lm_eval_run: Run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    artifact = lm_eval_run.lm_eval_changes()
    changes = LmEvalChanges.model_validate_json((artifact.data / "changes.json").read_text())
    assert set(changes.metrics) == {"capitals acc"} and list(changes.metrics["capitals acc"]) == ["base", "delia"]
    for arm in ("base", "delia"):
        (metric,) = read_results(Artifact.open(lm_eval_run.settings.run.path / "arms" / arm / "lm_eval", "lm_eval/2")).metrics
        assert metric.items and set(metric.items.values()) <= {0.0, 1.0} and len(metric.items) == len(ROWS)
        assert metric.value == pytest.approx(sum(metric.items.values()) / len(ROWS)) == changes.metrics["capitals acc"][arm].value
    assert changes.metrics["capitals acc"]["delia"].p is not None
    assert [heading for heading, _ in load_lm_eval_table(artifact).columns] == ["base", "delia"]
