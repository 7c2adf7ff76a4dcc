import json
from pathlib import Path

import pytest

from delia_ray.core.artifacts import MODEL_KIND, Artifact, Counts, Provenance, Workspace, build_once
from delia_ray.core.config import Config
from delia_ray.models.exported import ADAPTER, PARITY
from delia_ray.pipeline.serve import warn_of_host, warn_of_merged
from delia_ray.serving.http.keys import VARIABLE


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_nobody_else_reaches_the_loopback(host: str):
    assert warn_of_host(host) is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.168.1.20", "gpu-7.example.org"])
def test_a_host_that_others_reach_is_warned_of(host: str):
    warning = warn_of_host(host)
    assert warning and f"placement.serve.host={host} " in warning and VARIABLE in warning


class Nothing(Config):
    pass


def build(folder: Path, certificates: object, **inputs: Artifact) -> Artifact:
    def write(workspace: Workspace) -> Counts:
        (workspace.data / PARITY).write_text(json.dumps(certificates))
        return {}

    return build_once(folder, stage="a/1", kind=MODEL_KIND, request=Nothing(), inputs=inputs, provenance=Provenance(None, []), write=write)


def test_who_asks_for_adapters_is_told_what_is_served_merged_and_why(tmp_path: Path):
    base = build(tmp_path / "base", {})
    given = {"adapter": {ADAPTER: {"equal": 3}}, "full": {ADAPTER: {"reason": "all weights were trained"}}, "old": {}}
    models = {"base": base, **{name: build(tmp_path / name, certificates, base=base) for name, certificates in given.items()}}
    assert list(warn_of_merged(models, base)) == [
        "warning: placement.serve.form=adapter, but full is served merged: all weights were trained",
        "warning: placement.serve.form=adapter, but old is served merged: it was exported without an adapter",
    ]
    assert len(list(warn_of_merged(models, None))) == 3
