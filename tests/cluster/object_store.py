"""An S3 server on the loopback: moto's, which fails on demand for a while, as a real one under load.

As a program: ``python object_store.py PORT``.
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.request import Request, urlopen

from pyarrow import fs

_START_SECONDS = 60
_FAULTS = "/faults/"
_SLOW_SECONDS = 1.5


@dataclass(frozen=True)
class Store:
    """A running server."""

    url: str

    @property
    def environment(self) -> dict[str, str]:
        """Of a process that is to use it."""
        return {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": self.url,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def connect(self) -> fs.S3FileSystem:
        return fs.S3FileSystem(
            access_key="test", secret_key="test", region="us-east-1", endpoint_override=self.url, allow_bucket_creation=True
        )

    def create_bucket(self, name: str) -> None:
        self.connect().create_dir(name)

    def list(self, prefix: str) -> dict[str, int]:
        """Key below ``prefix`` -> bytes, of all objects."""
        infos = self.connect().get_file_info(fs.FileSelector(prefix, recursive=True, allow_not_found=True))
        return {info.path.removeprefix(f"{prefix}/"): info.size for info in infos if info.type == fs.FileType.File}

    def read(self, key: str) -> bytes:
        with self.connect().open_input_stream(key) as stream:
            return stream.read()

    @contextmanager
    def refusing(self) -> Generator[None]:
        """Refuse every request while the block runs, since no key is one that the server has given out."""
        self._set_free_requests("0")
        try:
            yield
        finally:
            self._set_free_requests("inf")

    def _set_free_requests(self, count: str) -> None:
        urlopen(Request(f"{self.url}/moto-api/reset-auth", count.encode(), {"Content-Type": "text/plain"})).close()

    def fail_for(self, seconds: float) -> None:
        """Answer every second request with 500, and the others slowly, from now on."""
        urlopen(f"{self.url}{_FAULTS}{seconds}").close()


@contextmanager
def start_store() -> Generator[Store]:
    """Start a server that ends with the block."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen([sys.executable, __file__, str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _wait_for(port, server)
        yield Store(f"http://127.0.0.1:{port}")
    finally:
        server.terminate()
        server.wait()


def _wait_for(port: int, server: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until:
        assert server.poll() is None, "the server has ended"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError(f"no server on port {port}")


class _Faults:
    """WSGI application around another."""

    def __init__(self, application: Callable[..., Iterable[bytes]]):
        self._application, self._until, self._requests = application, 0.0, 0

    def __call__(self, environ: Mapping[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path: str = environ["PATH_INFO"]
        if path.startswith(_FAULTS):
            self._until = time.monotonic() + float(path.removeprefix(_FAULTS))
            start_response("200 OK", [])
            return [b""]
        if time.monotonic() < self._until:
            self._requests += 1
            if self._requests % 2:
                environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
                start_response("500 Internal Server Error", [("Content-Type", "application/xml")])
                return [b"<Error><Code>InternalError</Code><Message>We encountered an internal error.</Message></Error>"]
            time.sleep(_SLOW_SECONDS)
        return self._application(environ, start_response)


def _serve(port: int) -> None:
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app  # noqa: PLC0415  for the program alone
    from werkzeug.serving import run_simple  # noqa: PLC0415

    os.environ["MOTO_S3_DEFAULT_KEY_BUFFER_SIZE"] = str(2**24)
    run_simple("127.0.0.1", port, _Faults(DomainDispatcherApplication(create_backend_app)), threaded=True)


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
