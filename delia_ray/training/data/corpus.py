"""The tokenized mixture on disk: Arrow files that Ray Data writes block by block and every worker reads through memory maps."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from ray.data import Datasink

from delia_ray.core.storage.transfer import publish
from delia_ray.training.data.tokens import TokenizedRow
from delia_ray.upstream.ray_data import to_table

CORPUS_SCHEMA = pa.schema(
    [
        pa.field("example_id", pa.string(), nullable=False),
        pa.field("group", pa.string(), nullable=False),
        pa.field("order_key", pa.int64(), nullable=False),
        pa.field("ids", pa.list_(pa.int32()), nullable=False),
        pa.field("kinds", pa.list_(pa.int8()), nullable=False),
        pa.field("full_tokens", pa.int64(), nullable=False),
    ]
)
"""Columns of the tokenized mixture; ``full_tokens`` is a row's length before truncation."""


class CorpusSink(Datasink[None]):
    """Ray Data sink that writes each task's blocks to one Arrow file, which can be memory-mapped without decoding."""

    def __init__(self, folder: Path):
        self._folder = folder

    def write(self, blocks: Iterable[Any], ctx: Any) -> None:
        tables = [to_table(block).cast(CORPUS_SCHEMA) for block in blocks]
        self._folder.mkdir(parents=True, exist_ok=True)
        name = self._folder / f"{ctx.task_idx:06d}.arrow"
        with pa.OSFile(str(name), "wb") as file, pa.ipc.new_file(file, CORPUS_SCHEMA) as writer:
            for table in tables:
                writer.write_table(table)
        publish(name)


class Corpus:
    """Rows of a tokenized mixture, indexed in the order of the mixture.

    Attributes:
        groups: [rows] ``task`` or ``diverse``.
    """

    def __init__(self, folder: Path):
        files = [pa.memory_map(str(file)) for file in sorted(folder.glob("*.arrow"))]
        table = pa.concat_tables([pa.ipc.open_file(file).read_all() for file in files])
        self._rows = table.combine_chunks() if table["ids"].num_chunks == 1 else table
        self._order: NDArray[np.int64] = np.argsort(table["order_key"].to_numpy(), kind="stable")

    def __len__(self) -> int:
        return len(self._order)

    @property
    def groups(self) -> list[str]:
        return self._rows["group"].take(pa.array(self._order)).to_pylist()

    def example_ids(self) -> Sequence[str]:
        """[rows] example ids in the order of the mixture, read all at once: only epochs after the first need them."""
        return self._rows["example_id"].take(pa.array(self._order)).to_pylist()

    def __getitem__(self, index: int) -> TokenizedRow:
        position = int(self._order[index])
        ids, kinds = (self._rows[name][position].values.to_numpy() for name in ("ids", "kinds"))
        return TokenizedRow(ids, kinds, self._rows["group"][position].as_py())

    def find_long_rows(self, max_tokens: int) -> list[tuple[str, int]]:
        """Find the example id and length of every row that had more than ``max_tokens`` before truncation."""
        long_rows = self._rows.filter(pc.field("full_tokens") > max_tokens).select(["example_id", "full_tokens"])
        return [(row["example_id"], row["full_tokens"]) for row in long_rows.to_pylist()]
