"""Ray 2.60: the blocks that a ``Datasink`` of Ray Data is given, whose accessor is not documented.

Can go when ``Datasink.write`` is given Arrow tables: https://docs.ray.io/en/latest/data/api/doc/ray.data.Datasink.html.
"""

from typing import Any, cast

import pyarrow as pa
from ray.data.block import BlockAccessor


def to_table(block: Any) -> pa.Table:
    """The rows of a block as an Arrow table."""
    return cast(pa.Table, BlockAccessor.for_block(block).to_arrow())
