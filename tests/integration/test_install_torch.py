"""Where the CPU build of torch comes from: real pip, no configuration but the test's own, and indexes on this machine."""

import os
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "requirements/install_torch.sh"
WHEEL = "torch-9.9.9+cpu-py3-none-any.whl"
ABOUT = "torch-9.9.9+cpu.dist-info"


@pytest.fixture(scope="module")
def interpreter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    return folder / "bin/python"


def _write_wheel(folder: Path) -> None:
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / WHEEL, "w") as wheel:
        wheel.writestr("torch.py", "")
        wheel.writestr(f"{ABOUT}/METADATA", "Metadata-Version: 2.1\nName: torch\nVersion: 9.9.9+cpu\nRequires-Dist: nowhere\n")
        wheel.writestr(f"{ABOUT}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{ABOUT}/RECORD", f"torch.py,,\n{ABOUT}/METADATA,,\n{ABOUT}/WHEEL,,\n{ABOUT}/RECORD,,\n")


class Machine:
    """A stock machine with a package index that has no such build, and PyTorch's, which has it unless it is taken away."""

    def __init__(self, folder: Path, interpreter: Path, url: str, asked: list[str]):
        self.folder, self.interpreter, self.url, self.asked = folder, interpreter, url, asked
        (folder / "usual/torch").mkdir(parents=True)
        _write_wheel(folder / "pytorch/torch")
        (folder / "pins.txt").write_text("# torch first\ntorch==9.9.9+cpu\nnowhere==1.0\n")

    def install(self, **more: str) -> subprocess.CompletedProcess[str]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
        stock = {"PIP_CONFIG_FILE": os.devnull, "PIP_RETRIES": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_CACHE_DIR": "1"}
        indexes = {"PIP_INDEX_URL": f"{self.url}/usual", "TORCH_CPU_INDEX": f"{self.url}/pytorch"}
        command = ["bash", str(SCRIPT), str(self.interpreter), str(self.folder / "pins.txt")]
        whole = {**environment, **stock, **indexes, **more}
        return subprocess.run(command, env=whole, capture_output=True, text=True, timeout=120, check=False)

    def installed(self) -> str:
        command = [self.interpreter, "-m", "pip", "list", "--format=freeze"]
        listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        return next((line for line in listed.splitlines() if line.startswith("torch")), "")


@pytest.fixture
def machine(tmp_path: Path, interpreter: Path) -> Iterator[Machine]:
    asked: list[str] = []

    class Index(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            asked.append(self.path)

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Index, directory=tmp_path)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield Machine(tmp_path, interpreter, f"http://127.0.0.1:{server.server_port}", asked)
        server.shutdown()
    subprocess.run([interpreter, "-m", "pip", "uninstall", "--yes", "torch"], capture_output=True, check=True)


def test_a_machine_whose_pip_does_not_find_the_build_takes_it_alone_from_pytorch(machine: Machine):
    done = machine.install()
    assert done.returncode == 0, done.stderr
    assert machine.installed() == "torch==9.9.9+cpu"
    assert {path for path in machine.asked if path.startswith("/pytorch")} == {
        "/pytorch/torch/",
        f"/pytorch/torch/{WHEEL.replace('+', '%2B')}",
    }


def test_where_pip_is_set_up_to_find_the_build_no_other_index_is_asked(machine: Machine):
    done = machine.install(PIP_FIND_LINKS=str(machine.folder / "pytorch/torch"))
    assert done.returncode == 0, done.stderr
    assert machine.installed() == "torch==9.9.9+cpu"
    assert not [path for path in machine.asked if path.startswith("/pytorch")]


def test_a_build_that_is_there_already_is_not_looked_for(machine: Machine):
    assert machine.install().returncode == 0
    machine.asked.clear()
    assert machine.install().returncode == 0
    assert machine.asked == []


@pytest.mark.parametrize("index", ["/none", None], ids=["not there", "not reached"])
def test_a_build_that_is_nowhere_is_one_clear_line(machine: Machine, index: str | None):
    where = "http://127.0.0.1:9/cpu" if index is None else machine.url + index
    done = machine.install(TORCH_CPU_INDEX=where)
    assert done.returncode == 1
    assert [line for line in done.stderr.splitlines() if line.startswith("install: ")] == [done.stderr.splitlines()[-1]]
    for named in ("torch==9.9.9+cpu", where, "HTTPS_PROXY", "TORCH_CPU_INDEX"):
        assert named in done.stderr.splitlines()[-1]
    assert machine.installed() == ""
