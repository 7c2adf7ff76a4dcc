"""`delia serve` as a process of its own, over a run with two adapters."""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

TINY = Path(__file__).parents[2] / "jobs/configs/tiny.yaml"
KEY = "k" * 32
_READY_SECONDS = 180.0


@dataclass
class Served:
    """A running `delia serve`."""

    process: "subprocess.Popen[str]"
    url: str
    """``/v1`` included."""
    said: str

    @property
    def root(self) -> str:
        return self.url.removesuffix("/v1")

    @property
    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.root, trust_env=False, timeout=120, headers={"authorization": f"Bearer {KEY}"})

    def find(self, name: str) -> list[psutil.Process]:
        """The processes below it whose command line begins so."""
        found: list[psutil.Process] = []
        for each in psutil.Process(self.process.pid).children(recursive=True):
            with suppress(psutil.Error):  # it has ended meanwhile
                if " ".join(each.cmdline()).startswith(name):
                    found.append(each)
        return found

    def chat(self, **more: object) -> dict[str, object]:
        return {"model": "one", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4, "temperature": 0, **more}


def wait(until: Callable[[], bool], seconds: float) -> float:
    """Wait until something holds, and return how long that took."""
    began = time.monotonic()
    while not until():
        assert time.monotonic() - began < seconds, f"not within {seconds:g} s"
        time.sleep(0.1)
    return time.monotonic() - began


@contextmanager
def serve(run: Path, *words: str, root: str = "", environment: Mapping[str, str] = os.environ) -> Generator[Served]:
    """Serve a run until the block ends.

    Args:
        words: of the command line.
        root: where the run is, if not in its folder.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    keys = run.parent / "keys.txt"
    keys.write_text(f"{KEY}\n")
    settings = [f"run.root={root or run.parent}", f"run.name={run.name}", f"placement.serve.port={port}", "placement.serve.form=adapter"]
    command = [sys.executable, "-m", "delia_ray", "serve", "--config", str(TINY), *settings, f"placement.serve.access.keys={keys}", *words]
    process = subprocess.Popen(command, cwd=run.parent, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout
    said = ""
    try:
        while not (found := re.search(r"serving .* at (\S+/v1),", said)):
            line = process.stdout.readline()
            assert line, said
            said += line
        yield Served(process, found[1], said)
    finally:
        process.terminate()
        process.wait(60)
