"""Memory and time of what is done once for all rows: keys read and looked up, tokens counted, rows split.

    python -m benchmarks.scale.indexes keys|tokens|waves|listing|split FOLDER

Ends with a line of JSON: seconds, of them on a processor, and the memory that the process took beyond what it began with.
"""

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.scale.mock_engine import ANSWER_TOKENS, write_text
from benchmarks.scale.turn import PROMPT_TOKENS, TOPICS, to_query
from delia_ray.core.records import QUERY_SCHEMA
from delia_ray.synthesis.filtering.dedup import split_rows
from delia_ray.synthesis.generation.cache import CacheIndex, CompletionCache, read_sorted_keys
from delia_ray.synthesis.generation.generate import _count_new_tokens  # pyright: ignore[reportPrivateUsage]
from delia_ray.synthesis.requests import FILTERED_SCHEMA

_WAVE_ROWS = 2_000
_LOOKS = 5
_FILTERED_FILE_ROWS = 1_300
"""52 million rows in 40,000 blocks."""


def write_keys(folder: Path, rows: int, files: int) -> None:
    """Write a cache of ``rows`` completions with only the columns that are read for all rows."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number, part in enumerate(np.array_split(np.empty(rows, dtype=np.bool_), files)):
        _write_key_file(folder / f"{number:06d}.parquet", rng.integers(0, 2**63, len(part)))


def _write_key_file(file: Path, keys: Any) -> None:
    columns = {"key": keys, "prompt_tokens": np.full(len(keys), PROMPT_TOKENS), "answer_tokens": np.full(len(keys), ANSWER_TOKENS)}
    pq.write_table(pa.table(columns), file)


def write_filtered(folder: Path, rows: int) -> None:
    """Write ``rows`` filtered rows as ``generate_and_filter`` leaves them."""
    folder.mkdir(parents=True)
    for start in range(0, rows, _FILTERED_FILE_ROWS):
        ids = [f"magpie-{number:08d}" for number in range(start, min(rows, start + _FILTERED_FILE_ROWS))]
        table = [
            {"key": int(row_id[-8:]), "row_id": row_id, "text": write_text(row_id), "finished": True, "prompt_tokens": PROMPT_TOKENS,
             "answer_tokens": ANSWER_TOKENS, "topic": TOPICS[0], "query": "", "error": "", "reason": "", "scope": ""}
            for row_id in ids
        ]  # fmt: skip
        pq.write_table(pa.Table.from_pylist(table, schema=FILTERED_SCHEMA), folder / f"{start:09d}.parquet")


def read_keys(folder: Path) -> dict[str, float]:
    """The keys of all rows, as each of the two tasks reads them that find out what is missing."""
    return measure(lambda: read_sorted_keys(CompletionCache(folder).files()))


def count_tokens(folder: Path) -> dict[str, float]:
    """The tokens of all rows, as counted after a generation that began with an empty cache."""
    keys = read_sorted_keys(CompletionCache(folder).files())
    return measure(lambda: _count_new_tokens((CompletionCache(folder),), keys, keys[:0]))


def follow_waves(folder: Path) -> dict[str, float]:
    """The index of an actor that plans waves: its first look at the cache, and later ones that find a new file."""
    index, wave = CacheIndex(CompletionCache(folder)), np.arange(_WAVE_ROWS)
    found, looks = measure(lambda: index.missing(wave)), list[float]()
    new = [folder / f"new-{number}.parquet" for number in range(_LOOKS)]
    for number, file in enumerate(new):
        _write_key_file(file, wave + number * _WAVE_ROWS)
        started = time.process_time()
        assert len(index.missing(wave)) == 0
        looks.append(time.process_time() - started)
    for file in new:
        file.unlink()
    return found | {"cpu_seconds_a_look": float(np.median(looks))}


def list_files(folder: Path) -> dict[str, float]:
    """The list of a cache's files."""
    return measure(lambda: CompletionCache(folder).files())


def split(folder: Path) -> dict[str, float]:
    """Duplicates found, and rows split into kept and rejected ones."""
    out = Path(tempfile.mkdtemp(prefix="bench-"))
    found = measure(lambda: split_rows(folder, out, "query", QUERY_SCHEMA, to_query))
    shutil.rmtree(out)
    return found


def measure(work: Callable[[], object]) -> dict[str, float]:
    """Time ``work``, and read the most memory that it took from the kernel, whose high-water mark is set back before."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before, started, cpu = _read_status("VmRSS"), time.perf_counter(), time.process_time()
    work()
    return {
        "seconds": time.perf_counter() - started,
        "cpu_seconds": time.process_time() - cpu,
        "peak_mib": (_read_status("VmHWM") - before) / 2**10,
    }


def _read_status(name: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


PARTS = {"keys": read_keys, "tokens": count_tokens, "waves": follow_waves, "listing": list_files, "split": split}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("folder", type=Path)
    args = parser.parse_args()
    print(json.dumps(PARTS[args.part](args.folder)), flush=True)


if __name__ == "__main__":
    main()
