"""Runs in a bucket without a cluster: what is there is seen, reused, and named when it cannot be."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from adapted_models import train_at_random, write_rows
from object_store import Store, start_store
from training_runs import TOKEN

from delia_ray.cli.main import main
from delia_ray.core.artifacts import Artifact
from delia_ray.core.storage.paths import mirror_uri
from delia_ray.core.storage.stores import connect
from delia_ray.core.storage.transfer import fetch
from delia_ray.placement import Replicas
from delia_ray.training.export.forms import ExportRequest, export_forms

CONFIG = Path(__file__).parents[2] / "jobs" / "configs" / "tiny.yaml"


@pytest.fixture(scope="module")
def store() -> Iterator[Store]:
    with start_store() as store, pytest.MonkeyPatch.context() as patch:
        for name, value in store.environment.items():
            patch.setenv(name, value)
        store.create_bucket("runs")
        connect.cache_clear()
        yield store
        connect.cache_clear()


def make_words(verb: str, mirror: Path, root: str = "s3://runs/a") -> list[str]:
    return [verb, "--config", str(CONFIG), f"run.root={root}", f"placement.cluster.mirror={mirror}"]


def delia(verb: str, mirror: Path, root: str = "s3://runs/a") -> int:
    return main(make_words(verb, mirror, root))


def build(verb: str, mirror: Path) -> None:
    """Run a verb in a process of its own, whose Ray knows where the store is."""
    subprocess.run([sys.executable, "-m", "delia_ray", *make_words(verb, mirror)], check=True, timeout=300)


@pytest.mark.parametrize("verb", ["run", "plan"])
def test_a_bucket_that_is_not_there_is_named(verb: str, store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert delia(verb, tmp_path, "s3://no-such-bucket/a") == 2
    shown = capsys.readouterr()
    assert "there is no bucket no-such-bucket" in (shown.out if verb == "plan" else shown.err)


@pytest.mark.slow
def test_what_is_finished_in_the_bucket_is_seen_from_a_machine_without_a_mirror(
    store: Store, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    build("mix", tmp_path / "first")
    assert delia("show", tmp_path / "second") == 0
    shown = capsys.readouterr().out
    assert all(role in shown for role in ("task", "queries", "diverse", "rewritten", "arms/delia/mixed"))
    assert delia("plan", tmp_path / "third") == 0
    assert "✓ arms/delia/mixed" in capsys.readouterr().out
    kept = store.list("runs/a/tiny")
    build("mix", tmp_path / "fourth")
    assert {name: size for name, size in kept.items() if "logs" not in name} == {
        name: size for name, size in store.list("runs/a/tiny").items() if "logs" not in name
    }


def test_every_form_of_an_export_is_found_by_another_node(store: Store, base: Artifact, tmp_path: Path):
    """The forms are compared in tasks of their own, which may run anywhere."""
    run, other = (mirror_uri("s3://runs/exports", tmp_path / node) for node in ("first", "second"))
    assert run and other
    train_at_random(base.data, 0, tmp_path / "checkpoint/trained")
    write_rows(tmp_path / "rewritten")
    request = ExportRequest(new_tokens=(TOKEN,), dtype="float32", parity_prompts=2, parity_tokens=2)
    out = run / ".model.partial/data"
    exported = export_forms(request, base.data, tmp_path / "checkpoint", tmp_path / "rewritten", out, Replicas(form="adapter"))
    adapter, merged = exported.forms
    assert adapter.adapter and (adapter.folder, merged.folder, merged.adapter) == (base.data, run / "model/data", None)
    for folder in (merged.folder, adapter.adapter):
        there = fetch(other / folder.relative_to(run))
        assert {file.name for file in there.iterdir()} == {file.name for file in folder.iterdir()} != set()
