"""What a run tells Prometheus, scraped from the port of a local Ray."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
import torch
from prometheus_client.parser import text_string_to_metric_families

from delia_ray.core.progress import SilentProgress
from delia_ray.core.records import REJECT_SCHEMA
from delia_ray.ray_runtime.metrics import METRICS, current_labels, exported_name, record_rejects
from delia_ray.ray_runtime.stages import meter
from delia_ray.ray_runtime.tally import RayTally
from delia_ray.training.data.tokens import TokenizedRow
from delia_ray.training.metrics.log import StepLog
from delia_ray.training.metrics.mfu import PeakFlops
from delia_ray.training.metrics.step_metrics import StepResult

REPORT_S = 10.0
"""Ray's processes hand over what they count so often; a gauge that is not set for two reports is dropped."""
Values = dict[tuple[str, ...], float]


def scrape(run: str) -> dict[str, Values]:
    """Scrape the metrics of ``run``: exported name -> values of its tags, the run's excepted -> value."""
    (node,) = ray.nodes()
    with urlopen(f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics") as answer:
        families = list(text_string_to_metric_families(answer.read().decode()))
    tags = {exported_name(name): metric.tags[1:] for name, metric in METRICS.items()}
    found: dict[str, Values] = {name: {} for name in tags}
    for sample in (sample for family in families for sample in family.samples if sample.name in tags):
        if sample.labels["run"] == run:
            assert sample.labels["SessionName"], "the dashboard finds the run's cluster by it"
            found[sample.name][tuple(sample.labels[tag] for tag in tags[sample.name])] = sample.value
    return found


def wait_for(run: str, expected: dict[str, Values], patience_s: float = 6 * REPORT_S) -> None:
    found, deadline = scrape(run), time.monotonic() + patience_s
    while (missing := {name: found[name] for name in expected if found[name] != expected[name]}) and time.monotonic() < deadline:
        time.sleep(1)
        found = scrape(run)
    assert missing == {}


def remote(function: Callable[..., Any], *arguments: Any) -> Any:
    return ray.get(ray.remote(num_cpus=0)(function).remote(*arguments))


def add(tally: RayTally, rows: int) -> None:
    tally.add(rows=rows, tokens=10 * rows)


def log_two_steps(folder: Path, labels: Any) -> None:
    log = StepLog(folder, (), PeakFlops(torch.float32, torch.device("cpu")), 0, 1, labels)
    rows = [TokenizedRow([1, 2, 3], [0, 1, 1], "task")]
    for step in (1, 2):
        result = StepResult(
            loss=1 / step, group_losses={}, kind_losses={}, supervised_tokens=2, gradient_norm=1.0, update_norm=0.1,
            learning_rate=1e-4, flops=100.0,
        )  # fmt: skip
        log.write(step, rows, result, list)
    log.close()


@pytest.mark.slow
def test_rows_tokens_rejects_and_the_stage_are_on_rays_endpoint(local_ray: None, tmp_path: Path):
    reasons = ["loop", "loop", "near duplicate of a1b2", "near duplicate of c3d4"]
    rows = [{"row_id": str(n), "step": "query", "reason": reason, "text": ""} for n, reason in enumerate(reasons)]
    pq.write_table(pa.Table.from_pylist(rows, schema=REJECT_SCHEMA), tmp_path / "0.parquet")
    with meter(SilentProgress(), "cats").stage("score delia on dev", "delia"):
        tally = RayTally()
        for count in (2, 3):
            remote(add, tally, count)
        record_rejects(tmp_path)
        stage = ("score on dev", "delia")
        counts = {
            "ray_delia_ray_rows_total": {stage: 5.0},
            "ray_delia_ray_tokens_total": {stage: 50.0},
            "ray_delia_ray_rejects_total": {(*stage, "loop"): 2.0, (*stage, "near duplicate"): 2.0},
        }
        wait_for("cats", {**counts, "ray_delia_ray_stage": {stage: 1.0}})
        time.sleep(3 * REPORT_S)
        wait_for("cats", {**counts, "ray_delia_ray_stage": {stage: 1.0}}, patience_s=0)  # a stage may take hours
    wait_for("cats", {**counts, "ray_delia_ray_stage": {stage: 0.0}})


def test_the_last_step_of_a_training_is_on_rays_endpoint(local_ray: None, tmp_path: Path):
    with meter(SilentProgress(), "dogs").stage("finetune sft", "sft"):
        remote(log_two_steps, tmp_path, current_labels())
    arm = ("finetune", "sft")
    wait_for(
        "dogs",
        {
            "ray_delia_ray_train_step": {arm: 2.0},
            "ray_delia_ray_train_loss": {arm: 0.5},
            "ray_delia_ray_tokens_total": {arm: 6.0},
        },
    )
    found = scrape("dogs")
    assert found["ray_delia_ray_train_tokens_per_s"][arm] > 0 and 0 <= found["ray_delia_ray_mfu"][arm] <= 1
