"""One turn of tokenizing a mixture.  python -m benchmarks.preparing ours|datasets MANY FEW

Both are folders that ``write_mixture`` made; the smaller one is tokenized first, so that every process has started.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.inputs import TOKEN, Inputs, demo
from delia_ray.core.records import MIXED_SCHEMA
from delia_ray.models import load_tokenizer, token_ids

MANY, FEW, ROWS_A_FILE = 240_000, 20_000, 10_000


def ours(given: Inputs, scratch: Path) -> Callable[[Path], int]:
    """Ray Data, to memory-mapped Arrow, with the kind of each token."""
    from delia_ray.placement import Cluster
    from delia_ray.ray_runtime.cluster import connect
    from delia_ray.training.data.prepare import prepare_corpus

    connect(Cluster())
    new = tuple(token_ids(load_tokenizer(given.base.data), [TOKEN]))

    def work(mixture: Path) -> int:
        return prepare_corpus(mixture, given.base.data, new, given.config, scratch / f"corpus-{mixture.name}")["rows"]

    return work


def hugging_face(given: Inputs, scratch: Path) -> Callable[[Path], int]:
    """``datasets.map`` in as many processes as there are cores, whole batches to the tokenizer, labels by the prompt's length."""
    import datasets

    datasets.disable_progress_bars()
    tokenizer = load_tokenizer(given.base.data)

    def tokenize(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        prompts = [tokenizer.apply_chat_template(each[:-1], tokenize=False, add_generation_prompt=True) for each in batch["messages"]]
        whole = [tokenizer.apply_chat_template(each, tokenize=False) for each in batch["messages"]]
        asked = [len(ids) for ids in tokenizer(prompts, add_special_tokens=False)["input_ids"]]
        ids = tokenizer(whole, add_special_tokens=False)["input_ids"]
        return {"input_ids": ids, "labels": [[-100] * count + each[count:] for count, each in zip(asked, ids, strict=True)]}

    def work(mixture: Path) -> int:
        rows = datasets.Dataset.from_parquet([str(file) for file in sorted(mixture.iterdir())], cache_dir=str(scratch))
        return len(
            rows.map(
                tokenize, batched=True, num_proc=os.cpu_count(), remove_columns=rows.column_names, load_from_cache_file=False,
                cache_file_name=str(scratch / f"{mixture.name}.arrow"),
            )
        )  # fmt: skip

    return work


def write_mixture(given: Inputs, count: int, folder: Path) -> None:
    """The demo's rows, repeated under ids of their own until there are ``count``."""
    examples = given.examples()
    folder.mkdir()
    for first in range(0, count, ROWS_A_FILE):
        places = range(first, first + ROWS_A_FILE)
        rows = [examples[place % len(examples)] | {"example_id": f"row-{place}", "order_key": place} for place in places]
        pq.write_table(pa.Table.from_pylist(rows, schema=MIXED_SCHEMA), folder / f"{first:09d}.parquet")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("arm", choices=["ours", "datasets"])
    parser.add_argument("many", type=Path)
    parser.add_argument("few", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        work = {"ours": ours, "datasets": hugging_face}[args.arm](demo(), Path(scratch))
        work(args.few)
        began = time.perf_counter()
        rows = work(args.many)
        print(json.dumps({"work": rows, "seconds": time.perf_counter() - began}), flush=True)


if __name__ == "__main__":
    main()
