"""One synthesis with mock engines: the project's own requests, cache, waves, filter and split.

    python -m benchmarks.scale.turn --rows 20000 --engines 8 --batch-seconds 0.2

Ends with a line of JSON. ``work`` are the rows, ``seconds`` the mean time of an engine from its start to its last batch.
"""

import argparse
import json
import shutil
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import ray.data

from benchmarks.scale.mock_engine import generate_with_mock
from delia_ray.core.progress import SilentProgress
from delia_ray.core.records import QUERY_SCHEMA
from delia_ray.models.control_tokens import ControlTokens
from delia_ray.placement import ActorPool, Cluster, Engine
from delia_ray.ray_runtime.cluster import connect
from delia_ray.synthesis.config import VllmEngine
from delia_ray.synthesis.context import apply_filter, split_rows_in_worker
from delia_ray.synthesis.controller.policy import PlannedQuery
from delia_ray.synthesis.filtering.filters import reject_query
from delia_ray.synthesis.generation import generate as generation
from delia_ray.synthesis.generation.cache import CompletionCache
from delia_ray.synthesis.generation.generate import GenerationSetup, Strategy, generate_and_filter, static_requests
from delia_ray.synthesis.generation.waves import WaveStrategy
from delia_ray.synthesis.query_config import DiversityController
from delia_ray.synthesis.requests import REQUEST_SCHEMA, GenerationResult, new_request

TOPICS = tuple(f"topic-{number}" for number in range(8))
PROMPT_TOKENS = 64
_CONTROL = ControlTokens(("<|im_start|>", "<|im_end|>", "<|endoftext|>"))
_ROWS_PER_BLOCK = 10_000


def build_requests(queries: list[PlannedQuery]) -> pa.Table:
    """Build requests of the usual length, as ``sources/magpie.py`` does with a tokenizer."""
    prompt_ids = list(range(PROMPT_TOKENS))
    rows = [
        new_request(
            "mock", f"magpie-{query.number:08d}", f"{query.topic} {'prompt ' * 40}{query.number}", prompt_ids,
            {"temperature": query.temperature, "top_k": 0, "max_tokens": 64, "stop": ["\n"], "seed": query.number}, topic=query.topic,
        )
        for query in queries
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=REQUEST_SCHEMA)


def build_strategy(rows: int, wave_rows: int | None, log: Path) -> Strategy:
    """All requests at once, or in waves under a controller that never acts."""
    if wave_rows is not None:
        settings = DiversityController(wave_rows=wave_rows, new_trigrams=0.0, new_texts=0.0)
        return WaveStrategy(settings, rows, TOPICS, 1.0, build_requests, log)
    numbers = ray.data.range(rows, override_num_blocks=max(1, rows // _ROWS_PER_BLOCK))
    return static_requests(numbers.map_batches(_build_block, batch_format="pyarrow"))


def _build_block(numbers: pa.Table) -> pa.Table:
    return build_requests([PlannedQuery(number, TOPICS[number % len(TOPICS)], 1.0, 0) for number in numbers["id"].to_pylist()])


def filter_row(result: GenerationResult) -> dict[str, Any]:
    """The filter of queries."""
    return apply_filter(reject_query, _CONTROL, result)


def to_query(row: Any) -> dict[str, Any]:
    """The record of a query that is kept."""
    return {"query_id": row["row_id"], "topic": row["topic"], "query": row["text"], "reference": None}


def synthesize(args: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    """Generate, filter and split; what each took, and the files it left."""
    # With a GPU each, the cost has the seconds that engines were held; the mock engine asks for none.
    pool = ActorPool(size=args.engines, num_cpus=0.01, num_gpus=1, batch_rows=args.batch_rows)
    cache = CompletionCache(scratch / "cache")
    setup = GenerationSetup(VllmEngine(), Path("mock"), Engine(), pool, cache, 0.0, lambda _=None: None)
    inflight, started = scratch / "inflight", time.perf_counter()
    inflight.mkdir()
    engine = partial(generate_with_mock, args.batch_seconds)
    with patch.object(generation, "generate", engine):
        strategy = build_strategy(args.rows, args.wave_rows, inflight / "controller.jsonl")
        filtered, cost = generate_and_filter(strategy, filter_row, setup, SilentProgress(), "queries", inflight)
    generated = time.perf_counter()
    (scratch / "out").mkdir()
    counts = split_rows_in_worker(filtered, scratch / "out", "query", QUERY_SCHEMA, to_query)
    assert counts["rows"] == args.rows, counts
    files = {name: sum(1 for _ in folder.glob("*.parquet")) for name, folder in
             (("requests", inflight / "requests"), ("cache", scratch / "cache"), ("filtered", filtered))}  # fmt: skip
    return {
        "work": args.rows,
        "seconds": cost.gpu_seconds / args.engines,
        "rows": args.rows,
        "engines": args.engines,
        "batch_rows": args.batch_rows,
        "wave_rows": args.wave_rows,
        "blocks": generation.count_generation_blocks(args.rows, pool),
        "total_seconds": generated - started,
        "generation_seconds": cost.seconds,
        "split_seconds": time.perf_counter() - generated,
        "files": files,
        "cache_bytes": int(np.sum([file.stat().st_size for file in cache.files()])),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--engines", type=int, default=1)
    parser.add_argument("--batch-rows", type=int, default=32)
    parser.add_argument("--batch-seconds", type=float, default=0.0)
    parser.add_argument("--wave-rows", type=int)
    args = parser.parse_args()
    connect(Cluster())
    scratch = Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        print(json.dumps(synthesize(args, scratch)), flush=True)
    finally:
        shutil.rmtree(scratch)


if __name__ == "__main__":
    main()
