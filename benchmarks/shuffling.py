"""One turn of a seeded global shuffle.  python -m benchmarks.shuffling ours|numpy|blocks MANY FEW

Both are folders that ``benchmarks.preparing.write_mixture`` would make, without an order; the smaller one is done first. ``blocks``
says how the order hashes when the rows are read in 1, 2, 8 and 64 blocks.
"""

import argparse
import hashlib
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from delia_ray.core.records import EXAMPLE_SCHEMA, make_row_id

MANY, FEW, ROWS_A_FILE = 400_000, 4_000, 50_000
BLOCKS = (1, 2, 8, 64)
_SEED = 0


def ours(given: Path, out: Path, blocks: int | None = None) -> None:
    """Sorted by keyed hash, as the stage ``mixed`` does it."""
    import ray.data

    from delia_ray.mixing.stage import shuffle
    from delia_ray.placement import Cluster
    from delia_ray.ray_runtime.cluster import connect

    connect(Cluster())
    rows = ray.data.read_parquet(str(given), override_num_blocks=blocks)
    shuffle([rows], count(given), _SEED).write_parquet(str(out))


def by_numpy(given: Path, out: Path) -> None:
    """All rows in memory, taken in the order of a permutation."""
    rows = pq.read_table(given)
    out.mkdir()
    pq.write_table(rows.take(pa.array(np.random.default_rng(_SEED).permutation(len(rows)))), out / "0.parquet")


def count(folder: Path) -> int:
    return sum(pq.read_metadata(file).num_rows for file in folder.glob("*.parquet"))


def order_hash(folder: Path) -> str:
    """Of the ids in the order of their keys."""
    rows = pq.read_table(folder, columns=["example_id", "order_key"]).sort_by("order_key")
    return hashlib.sha256("".join(rows["example_id"].to_pylist()).encode()).hexdigest()[:16]


def write_examples(rows: int, folder: Path) -> None:
    """Conversations of some 100 words under ids of their own."""
    folder.mkdir(parents=True)
    for first in range(0, rows, ROWS_A_FILE):
        examples = [
            {
                "example_id": make_row_id("bench", str(place)),
                "group": "diverse",
                "messages": [{"role": role, "content": f"{role} {place} " * 25} for role in ("user", "assistant")],
            }
            for place in range(first, min(first + ROWS_A_FILE, rows))
        ]
        pq.write_table(pa.Table.from_pylist(examples, schema=EXAMPLE_SCHEMA), folder / f"{first:09d}.parquet")


ARMS: dict[str, Callable[[Path, Path], None]] = {"ours": ours, "numpy": by_numpy}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("arm", choices=[*ARMS, "blocks"])
    parser.add_argument("many", type=Path)
    parser.add_argument("few", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        found: dict[str, object] = {"work": count(args.many)}
        arm = ARMS.get(args.arm, ours)
        arm(args.few, scratch / "few")
        began = time.perf_counter()
        if args.arm == "blocks":
            for blocks in BLOCKS:
                ours(args.many, scratch / str(blocks), blocks)
            found["order"] = {blocks: order_hash(scratch / str(blocks)) for blocks in BLOCKS}
        else:
            arm(args.many, scratch / "many")
        print(json.dumps(found | {"seconds": time.perf_counter() - began}), flush=True)


if __name__ == "__main__":
    main()
