"""A process group of one process, for tests of DeepSpeed in pytest's own process."""

import os
from collections.abc import Generator
from contextlib import contextmanager

import torch
import torch.distributed as dist


@contextmanager
def single_process_group() -> Generator[None]:
    """A process group of this process alone. ZeRO-3 replaces ``torch.nn.functional.linear`` for good, so it is put back for other tests."""
    linear = torch.nn.functional.linear
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}
    store = dist.TCPStore("127.0.0.1", 0, 1, True)  # pyright: ignore[reportPrivateImportUsage]
    os.environ["MASTER_PORT"] = str(store.port)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    torch.nn.functional.linear = linear
    dist.destroy_process_group()
    for name in ("MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE", "LOCAL_RANK"):
        del os.environ[name]
