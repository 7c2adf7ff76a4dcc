"""The tokenised mixture on disk: written by Ray Data as it streams, read by every worker through a memory map."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from ray.data import Datasink
from ray.data.block import BlockAccessor

from delia_ray.training.tokens import TokenisedRow

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
"""``full_tokens``: length before a cut."""


class CorpusSink(Datasink[None]):
    """Writes each block as one Arrow file, which can be mapped into memory without being decoded."""

    def __init__(self, folder: Path):
        self._folder = folder

    def write(self, blocks: Iterable[Any], ctx: Any) -> None:
        tables = [cast(pa.Table, BlockAccessor.for_block(block).to_arrow()).cast(CORPUS_SCHEMA) for block in blocks]
        with pa.OSFile(str(self._folder / f"{ctx.task_idx:06d}.arrow"), "wb") as file, pa.ipc.new_file(file, CORPUS_SCHEMA) as writer:
            for table in tables:
                writer.write_table(table)


class Corpus:
    """The rows of a tokenised mixture, by their place in the mixture's order.

    Attributes:
        groups: [rows] ``task`` or ``diverse``.
    """

    def __init__(self, folder: Path):
        files = [pa.memory_map(str(file)) for file in sorted(folder.glob("*.arrow"))]
        table = pa.concat_tables([pa.ipc.open_file(file).read_all() for file in files])
        self._rows = table.combine_chunks() if table["ids"].num_chunks == 1 else table
        self._places: NDArray[np.int64] = np.argsort(table["order_key"].to_numpy(), kind="stable")

    def __len__(self) -> int:
        return len(self._places)

    @property
    def groups(self) -> list[str]:
        return self._rows["group"].take(pa.array(self._places)).to_pylist()

    def example_ids(self) -> Sequence[str]:
        """[rows] ids, in order. All at once: only an epoch after the first needs them."""
        return self._rows["example_id"].take(pa.array(self._places)).to_pylist()

    def __getitem__(self, index: int) -> TokenisedRow:
        place = int(self._places[index])
        ids, kinds = (self._rows[name][place].values.to_numpy() for name in ("ids", "kinds"))
        return TokenisedRow(ids, kinds, self._rows["group"][place].as_py())

    def rows_over(self, max_tokens: int) -> list[tuple[str, int]]:
        """Id and length of every row that had more than ``max_tokens``."""
        over = self._rows.filter(pc.field("full_tokens") > max_tokens).select(["example_id", "full_tokens"])
        return [(row["example_id"], row["full_tokens"]) for row in over.to_pylist()]
