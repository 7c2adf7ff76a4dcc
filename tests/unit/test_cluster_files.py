"""Every file in cluster/ parses against what reads it, and the scripts there do what they say."""

import importlib
import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from delia_ray import __version__
from delia_ray.core.config import build_config
from delia_ray.settings import Settings

ROOT = Path(__file__).parents[2]
CLUSTER = ROOT / "cluster"
FILES = sorted(file for file in CLUSTER.rglob("*") if file.is_file() and file.suffix != ".pyc")
RAY_CLUSTERS = [CLUSTER / f"{name}.yaml" for name in ("aws", "gcp", "local")]
POD_MONITOR = CLUSTER / "kuberay/podmonitor.yaml"
KUBERAY = sorted(file for file in (CLUSTER / "kuberay").glob("*.yaml") if file != POD_MONITOR)
SCRIPTS = sorted(CLUSTER.glob("*.sh"))
DATA = Path(__file__).parent / "data"
RELEASES = [(release, entry["schemas"]) for entry in json.loads((DATA / "kuberay.json").read_text()) for release in entry["releases"]]
MODELS = 3
"""The base model and the two arms of jobs/configs/paper.yaml are served together."""


def _named(file: Path) -> str:
    return str(file.relative_to(ROOT))


def read(file: Path) -> dict[str, Any]:
    return yaml.safe_load(file.read_text())


def test_every_yaml_here_is_one_that_is_validated():
    assert {file for file in FILES if file.suffix == ".yaml"} == {*RAY_CLUSTERS, *KUBERAY, POD_MONITOR, CLUSTER / "skypilot.yaml"}


@pytest.mark.parametrize("file", RAY_CLUSTERS, ids=_named)
def test_ray_up_accepts_the_clusters(file: Path):
    from ray.autoscaler._private.util import prepare_config, validate_config  # noqa: PLC0415  a second, for these tests only

    validate_config(prepare_config(read(file)))


@pytest.mark.parametrize("file", KUBERAY, ids=_named)
@pytest.mark.parametrize(("release", "schemas"), RELEASES, ids=[release for release, _ in RELEASES])
def test_the_last_three_kuberays_accept_the_manifests(file: Path, release: str, schemas: Mapping[str, Any]):
    manifest = read(file)
    jsonschema.Draft202012Validator(schemas[manifest["kind"]]).validate(manifest)


def test_the_prometheus_operator_accepts_the_pod_monitor_and_it_names_the_pods_and_the_port_of_every_manifest():
    monitor, schemas = read(POD_MONITOR), json.loads((DATA / "podmonitor.json").read_text())[0]["schemas"]
    jsonschema.Draft202012Validator(schemas["PodMonitor"]).validate(monitor)
    (port,) = (endpoint["port"] for endpoint in monitor["spec"]["podMetricsEndpoints"])
    for file in KUBERAY:
        assert len(re.findall(rf"\{{name: {port}, containerPort: 8080\}}", file.read_text())) == 2, "the head and the workers"


def test_no_cluster_that_is_started_here_has_its_dashboard_or_its_metrics_switched_off():
    switches = r"include-dashboard[ =:]+.?(?:false|0)|RAY_enable_metrics_collection|metrics-export-port[ =:]+.?-1"
    assert [file.name for file in FILES if re.search(switches, file.read_text(), re.IGNORECASE)] == []


def test_skypilot_accepts_the_task():
    task, schemas = read(CLUSTER / "skypilot.yaml"), json.loads((DATA / "skypilot.json").read_text())[0]["schemas"]
    jsonschema.Draft202012Validator(schemas["task"]).validate(task)
    jsonschema.Draft202012Validator(schemas["resources"]).validate(task["resources"])


def test_ray_serve_accepts_the_application_of_the_service_and_it_takes_the_arguments():
    from ray.serve.schema import ServeDeploySchema  # noqa: PLC0415  three seconds, for this test only

    config = yaml.safe_load(read(CLUSTER / "kuberay/rayservice.yaml")["spec"]["serveConfigV2"])
    (application,) = ServeDeploySchema.model_validate(config).applications
    assert application.import_path == "serve.app:build_app"
    importlib.import_module("serve.app").ServeArguments.model_validate(application.args)


def node_types(file: Path) -> dict[str, dict[str, Any]]:
    """What Ray's autoscaler reads from a file: type -> ``resources``, ``max_workers``, ``priority``."""
    from ray.autoscaler._private.kuberay import autoscaling_config  # noqa: PLC0415
    from ray.autoscaler._private.util import prepare_config  # noqa: PLC0415

    content = read(file)
    if file in RAY_CLUSTERS:
        return prepare_config(content)["available_node_types"]
    spec = content["spec"].get("rayClusterSpec") or content["spec"].get("rayClusterConfig") or content["spec"]
    cluster = {"metadata": {**content["metadata"], "namespace": "default"}, "spec": spec}
    return autoscaling_config._derive_autoscaling_config_from_ray_cr(cluster)["available_node_types"]


GROWING = [CLUSTER / "aws.yaml", CLUSTER / "gcp.yaml", *KUBERAY]


@pytest.mark.parametrize("file", GROWING, ids=_named)
def test_a_cluster_that_grows_has_room_for_each_stage_of_the_papers_run_and_none_on_its_head(file: Path):
    from delia_ray.ray_runtime.capacity import demand_of_pool, demand_of_replicas, demand_of_workers, fits  # noqa: PLC0415

    placement = build_config(Settings, [ROOT / "jobs/configs/paper.yaml"], []).placement
    demands = (
        demand_of_pool(placement.synthesize, ""),
        demand_of_workers(placement.finetune),
        demand_of_replicas(placement.serve, MODELS),
    )
    head, *workers = (types := node_types(file)).values()
    assert next(iter(types)).startswith("head") and not head["resources"].get("CPU") and not head["resources"].get("GPU")
    for worker in workers:
        assert all(fits(demand.bundles, [worker["resources"]] * worker["max_workers"]) for demand in demands)


@pytest.mark.parametrize("file", [CLUSTER / "aws.yaml", CLUSTER / "gcp.yaml"], ids=_named)
def test_spot_machines_come_first_and_the_others_when_spot_machines_do_not_come_up(file: Path):
    """And not when the request for a spot machine fails, as the file says: then Ray asks for one again."""
    from ray.autoscaler.v2.instance_manager.subscribers.cloud_resource_monitor import CloudResourceMonitor  # noqa: PLC0415
    from ray.core.generated.instance_manager_pb2 import Instance, InstanceUpdateEvent  # noqa: PLC0415  # pyright: ignore

    types = node_types(file)
    (spot,) = (name for name in types if "spot" in name)
    (other,) = (name for name in types if "demand" in name)
    monitor = CloudResourceMonitor()
    assert launched(types, monitor) == spot
    for status, expected in ((Instance.ALLOCATION_FAILED, spot), (Instance.ALLOCATION_TIMEOUT, other)):
        monitor.notify([InstanceUpdateEvent(instance_id="1", instance_type=spot, new_instance_status=status)])
        assert launched(types, monitor) == expected
    assert launched({**types, spot: {**types[spot], "max_workers": 0}}, CloudResourceMonitor()) == other


def launched(types: Mapping[str, Mapping[str, Any]], monitor: Any) -> str:
    """The type that Ray's autoscaler starts for one GPU."""
    from ray.autoscaler.v2.instance_manager.config import NodeTypeConfig  # noqa: PLC0415
    from ray.autoscaler.v2.scheduler import ResourceDemandScheduler, SchedulingRequest  # noqa: PLC0415
    from ray.autoscaler.v2.utils import ResourceRequestUtil  # noqa: PLC0415

    configs = {
        name: NodeTypeConfig(name, 0, each["max_workers"], priority=each.get("priority", 0), resources=each["resources"])
        for name, each in types.items()
    }
    request = SchedulingRequest(
        disable_launch_config_check=True,
        node_type_configs=configs,
        resource_requests=ResourceRequestUtil.group_by_count([ResourceRequestUtil.make({"GPU": 1})]),
        cloud_resource_availabilities=monitor.get_resource_availabilities(),
        recoverable_resource_availabilities=monitor.get_recoverable_resource_availabilities(),
    )
    (launch,) = ResourceDemandScheduler(None).schedule(request).to_launch
    return launch.instance_type


@pytest.mark.parametrize("file", FILES, ids=_named)
def test_images_have_the_versions_of_this_package_and_of_the_pinned_ray(file: Path):
    pinned = re.search(r"^ray==(.*)$", (ROOT / "requirements/gpu.txt").read_text(), re.MULTILINE)
    assert pinned
    text = file.read_text()
    assert {*re.findall(r'(?:rayproject/ray:|rayVersion: "|-ray)(\d+\.\d+\.\d+)', text)} <= {pinned[1]}
    assert {*re.findall(r"delia-ray:(\d+\.\d+\.\d+)", text)} <= {__version__}


def test_files_of_this_checkout_that_are_named_here_exist():
    named = {found for file in FILES for found in re.findall(r"\b(?:jobs|serve|cluster|docs|requirements)/[\w/-]+\.\w+", file.read_text())}
    assert {"jobs/configs/paper.yaml", "cluster/retry.sh"} <= named
    assert not [path for path in named if not (ROOT / path).exists()]


@pytest.mark.parametrize("file", SCRIPTS, ids=_named)
def test_bash_reads_the_scripts(file: Path):
    check_script(file.read_text())


@pytest.mark.parametrize("part", ["setup", "run"])
def test_bash_reads_the_parts_of_the_skypilot_task(part: str):
    check_script("#!/bin/bash\n" + read(CLUSTER / "skypilot.yaml")[part], "--exclude=SC2086,SC2154")  # $RUN is several words, from envs


def check_script(text: str, *options: str) -> None:
    """Let bash parse a script, and shellcheck judge it where it is installed."""
    subprocess.run(["bash", "-n"], input=text, check=True, text=True)
    if shellcheck := shutil.which("shellcheck"):
        subprocess.run([shellcheck, "--severity=warning", *options, "-"], input=text, check=True, text=True)
