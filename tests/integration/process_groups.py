"""A process group of one process, for tests of DeepSpeed in pytest's own process."""

import os
from collections.abc import Generator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from deepspeed.comm import comm
from deepspeed.utils import groups


@contextmanager
def single_process_group() -> Generator[None]:
    """A process group of this process alone.

    For other tests what DeepSpeed keeps for good is put back: the first group it saw, and ZeRO-3's ``torch.nn.functional.linear``.
    """
    linear = torch.nn.functional.linear
    _forget_groups()
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "RANK": "0", "WORLD_SIZE": "1", "LOCAL_RANK": "0"}
    store = dist.TCPStore("127.0.0.1", 0, 1, True)  # pyright: ignore[reportPrivateImportUsage]
    os.environ["MASTER_PORT"] = str(store.port)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        yield
    finally:
        torch.nn.functional.linear = linear
        _forget_groups()
        dist.destroy_process_group()
        for name in ("MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE", "LOCAL_RANK"):
            del os.environ[name]


def _forget_groups() -> None:
    comm.cdb = groups._WORLD_GROUP = None  # pyright: ignore[reportPrivateUsage]
