import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from object_store import Store, start_store

from delia_ray.core.storage.paths import mirror_uri
from delia_ray.core.storage.stores import connect


@pytest.fixture(scope="session")
def server() -> Iterator[Store]:
    with start_store() as server:
        yield server


@pytest.fixture
def store(server: Store, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """The server, as this process's object store."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    connect.cache_clear()
    yield server
    connect.cache_clear()


@pytest.fixture
def bucket(store: Store) -> str:
    name = f"bucket-{uuid.uuid4().hex[:12]}"
    store.create_bucket(name)
    return name


@pytest.fixture
def run(bucket: str, tmp_path: Path) -> Path:
    """The folder of a run in the bucket, in the mirror of a node."""
    return mirror(bucket, tmp_path / "node")


@pytest.fixture
def other(bucket: str, tmp_path: Path) -> Path:
    """The same folder in the mirror of another node."""
    return mirror(bucket, tmp_path / "other")


def mirror(bucket: str, node: Path) -> Path:
    path = mirror_uri(f"s3://{bucket}/runs/r", node)
    assert path is not None
    return path
