"""What Ray Serve says of an application, read."""

from types import SimpleNamespace
from typing import Any

import pytest

from delia_ray.core.errors import LostError
from delia_ray.ray_runtime.resources import PlacementError
from delia_ray.serving import applications
from delia_ray.serving.applications import check_name, find_fault, find_start_error


def make_deployment(running: int, trigger: str = "CONFIG_UPDATE_COMPLETED", message: str = "", status: str = "HEALTHY") -> Any:
    return SimpleNamespace(replica_states={"RUNNING": running} if running else {}, status_trigger=trigger, message=message, status=status)


def use(monkeypatch: pytest.MonkeyPatch, **deployments: Any) -> None:
    status = SimpleNamespace(applications={"delia": SimpleNamespace(deployments=deployments)})
    monkeypatch.setattr(applications, "get_serve", lambda: SimpleNamespace(status=lambda: status))


def test_a_model_without_a_replica_is_a_fault(monkeypatch: pytest.MonkeyPatch):
    use(monkeypatch, one=make_deployment(1), two=make_deployment(2))
    assert find_fault("delia") is None
    use(monkeypatch, one=make_deployment(1), two=make_deployment(0, "REPLICA_STARTUP_FAILED", "Traceback\n  no such file\n"))
    assert find_fault("delia") == ("two: no such file", True)
    use(monkeypatch, one=make_deployment(0, "HEALTH_CHECK_FAILED"))  # its node was lost, and it waits for another
    assert find_fault("delia") == ("one: no replica runs", False)


def test_an_application_that_is_gone_was_ended_by_others(monkeypatch: pytest.MonkeyPatch):
    use(monkeypatch)
    with pytest.raises(LostError, match="ended from elsewhere"):
        find_fault("other")


def test_the_first_deployment_that_did_not_start_is_named(monkeypatch: pytest.MonkeyPatch):
    use(monkeypatch, one=make_deployment(1), two=make_deployment(0, status="DEPLOY_FAILED", message="a\nb"))
    assert find_start_error("delia") == "two cannot be started: b"
    assert find_start_error("other") is None


def test_a_run_is_served_once(monkeypatch: pytest.MonkeyPatch):
    use(monkeypatch)
    check_name("other")
    with pytest.raises(PlacementError, match="delia serves this run on that cluster already"):
        check_name("delia")
