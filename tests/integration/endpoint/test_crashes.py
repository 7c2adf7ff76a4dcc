"""What an endpoint does when a process of it ends, and what it leaves behind."""

import os
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import httpx
import psutil
import pytest
from adapted_models import build_adapted
from filelock import FileLock
from served_runs import Served, serve, wait

from delia_ray.core.artifacts import MODEL_KIND, Artifact
from delia_ray.core.layout import RunLayout
from delia_ray.upstream.ray_cluster import listening_on_loopback

pytestmark = [pytest.mark.endpoint]
ENGINE, REPLICA = "VLLM::EngineCore", "ray::ServeReplica"
ENGINE_SECONDS, END_SECONDS = 20.0, 10.0


def answers(served: Served) -> bool:
    try:
        with served.client as client:
            return client.post("/v1/chat/completions", json=served.chat()).status_code == 200
    except httpx.HTTPError:
        return False


def test_a_killed_engine_is_back_and_requests_in_progress_may_be_sent_again(served: Served):
    with served.client as client:
        before = client.post("/v1/chat/completions", json=served.chat(model="two", max_tokens=16)).json()["choices"][0]["message"]
        found: list[httpx.Response] = []
        long = served.chat(max_tokens=200, n=100, temperature=1, ignore_eos=True)
        asking = threading.Thread(target=lambda: found.append(client.post("/v1/chat/completions", json=long)))
        asking.start()
        time.sleep(1)
        (engine,) = served.find(ENGINE)
        engine.kill()
        asking.join()
        took = wait(lambda: answers(served), 3 * ENGINE_SECONDS)
        after = client.post("/v1/chat/completions", json=served.chat(model="two", max_tokens=16)).json()["choices"][0]["message"]
    print(f"the engine is back after {took:.1f} s")
    assert found[0].status_code == 503, found[0].text
    assert int(found[0].headers["retry-after"]) > 0 and found[0].json()["error"]["code"] == "engine_down"
    assert after == before and took <= ENGINE_SECONDS


def test_with_several_engines_only_the_one_that_ended_is_away(run: Path):
    with serve(run, "--arms", "one,two", "placement.serve.form=merged") as served, served.client as client:

        def ask(model: str) -> httpx.Response:
            return client.post("/v1/chat/completions", json=served.chat(model=model))

        def find_refusal() -> httpx.Response | None:
            return next((answer for model in ("one", "two") if (answer := ask(model)).status_code != 200), None)

        assert [ask(model).status_code for model in ("one", "two")] == [200, 200]
        engine, _ = served.find(ENGINE)
        engine.kill()
        found: list[httpx.Response] = []
        wait(lambda: bool(refused := find_refusal()) and not found.append(refused), 30)
        assert found[0].status_code == 503 and int(found[0].headers["retry-after"]) > 0, found[0].text
        took = wait(lambda: client.get("/health").status_code == 200 and find_refusal() is None, 180)
        print(f"both engines answer {took:.1f} s later")


def test_an_engine_that_cannot_be_started_for_a_while_is_away_until_it_can(run: Path):
    """Its model's files are gone: every request gets 503 with ``Retry-After``, and then an answer again."""
    manifest = run / "base/manifest.json"
    with serve(run) as served, served.client as client:
        (engine,), replicas = served.find(ENGINE), served.find(REPLICA)
        manifest.rename(manifest.with_suffix(".away"))
        try:
            engine.kill()
            wait(lambda: client.get("/health").status_code == 503, 60)
            time.sleep(10)
            refused = client.post("/v1/chat/completions", json=served.chat())
        finally:
            manifest.with_suffix(".away").rename(manifest)
        assert refused.status_code == 503 and int(refused.headers["retry-after"]) > 0, refused.text
        took = wait(lambda: answers(served), 120)
        print(f"the engine is back after {took:.1f} s")
        assert served.find(REPLICA) == replicas


def test_an_arm_that_was_built_anew_is_the_new_one_after_a_crash(run: Path, tmp_path: Path):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    layout = RunLayout(copy)
    with serve(copy) as served, served.client as client:

        def find_fingerprints() -> dict[str, str]:
            return {card["id"]: card["metadata"]["fingerprint"] for card in client.get("/v1/models").json()["data"]}

        before = find_fingerprints()
        shutil.rmtree(layout.of_arm("two", "model"))
        new = build_adapted(Artifact.open(layout.base, MODEL_KIND), 7, layout.of_arm("two", "model"), tmp_path / "scratch")
        served.find(ENGINE)[0].kill()
        wait(lambda: not answers(served), 3 * ENGINE_SECONDS)
        wait(lambda: answers(served), 3 * ENGINE_SECONDS)
        assert client.post("/v1/chat/completions", json=served.chat(model="two")).status_code == 200
        assert find_fingerprints() == {**before, "two": new.fingerprint} != before


def test_an_endpoint_that_others_end_says_so(run: Path):
    with serve(run) as served:
        end = "import ray; from ray import serve; ray.init(address='auto', log_to_driver=False); serve.shutdown()"
        with listening_on_loopback():  # as the cluster does
            subprocess.run([sys.executable, "-c", end], check=True, timeout=120)
        assert served.process.stdout is not None
        said = served.process.stdout.read()
        assert served.process.wait(60) == 2 and "ended from elsewhere (`serve shutdown`)" in said, said


def test_a_killed_replica_is_replaced(served: Served):
    (replica,) = served.find(REPLICA)
    replica.kill()
    took = wait(lambda: answers(served), 180)
    print(f"the replica is back after {took:.1f} s")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
def test_nothing_is_left_when_it_ends(run: Path, number: signal.Signals):
    with serve(run) as served:
        below = psutil.Process(served.process.pid).children(recursive=True)
        assert len(below) > 5
        began = time.monotonic()
        served.process.send_signal(number)
        assert served.process.wait(60) == 0
        gone, alive = psutil.wait_procs(below, 30)
        took = time.monotonic() - began
    print(f"{number.name}: {len(gone)} processes were gone after {took:.1f} s")
    assert not alive and took <= END_SECONDS


def test_a_run_is_only_read(run: Path):
    """Another process works on the run, and this one may not write it."""
    files = [file for file in (run, *run.rglob("*")) if not file.is_symlink()]
    modes = {file: stat.S_IMODE(file.stat().st_mode) for file in files}
    with FileLock(run / ".lock"):
        before = {file: file.stat().st_mtime_ns for file in run.rglob("*")}
        for file in files:
            file.chmod(modes[file] & ~0o222)
        try:
            with serve(run, "--arms", "two") as served, served.client as client:
                assert [card["id"] for card in client.get("/v1/models").json()["data"]] == ["base", "two"]
                assert client.post("/v1/chat/completions", json=served.chat()).status_code == 404
                assert client.post("/v1/chat/completions", json=served.chat(model="two")).status_code == 200
        finally:
            for file, mode in modes.items():
                file.chmod(mode)
        assert {file: file.stat().st_mtime_ns for file in run.rglob("*")} == before
    os.unlink(run / ".lock")
