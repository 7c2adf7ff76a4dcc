import json
from pathlib import Path

import pytest

from delia_ray.core.artifacts import MODEL_KIND, Artifact, Counts, Provenance, Workspace, build_once
from delia_ray.core.config import Config
from delia_ray.models.exported import ADAPTER, PARITY
from delia_ray.pipeline.serve import warn_of_address, warn_of_merged
from delia_ray.placement import Replicas
from delia_ray.serving.http.keys import VARIABLE


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_nobody_else_reaches_the_loopback(host: str):
    assert not list(warn_of_address(Replicas(host=host), (host, 8123), has_keys=False))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.168.1.20", "gpu-7.example.org"])
def test_a_host_that_others_reach_is_warned_of(host: str):
    *_, warning = warn_of_address(Replicas(host=host), (host, 8123), has_keys=False)
    assert f"listens at {host} " in warning and VARIABLE in warning
    assert not any("key" in line for line in warn_of_address(Replicas(host=host), (host, 8123), has_keys=True))


def test_the_address_of_a_ray_serve_that_runs_already_counts():
    everywhere, other, exposed = warn_of_address(Replicas(), ("0.0.0.0", 8000), has_keys=False)
    assert everywhere == "the endpoint listens at all addresses of this machine, port 8000"
    assert "listens at 0.0.0.0:8000" in other and "placement.serve.port=8123 have no effect" in other
    assert "asks for no key" in exposed


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
