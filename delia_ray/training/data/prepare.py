"""Preparation of the training data: a mixture is tokenized with Ray Data, block by block; no row passes through the driver."""

import os
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from delia_ray.core.errors import UserError
from delia_ray.core.storage.objects import exists, remove, write_bytes
from delia_ray.core.storage.paths import is_remote
from delia_ray.core.storage.tables import count_rows
from delia_ray.core.storage.transfer import fetch
from delia_ray.models import load_tokenizer
from delia_ray.ray_runtime.resources import get_one_core_options
from delia_ray.ray_runtime.tables import read_parquet
from delia_ray.ray_runtime.tasks import run_on_worker
from delia_ray.training.config import FinetuneConfig
from delia_ray.training.data.corpus import CORPUS_SCHEMA, Corpus, CorpusSink
from delia_ray.training.data.tokens import TokenizedRow, tokenize

_ROWS_PER_BLOCK = 10_000
_INSPECTION_BYTES = 2**30
"""Memory of a process that looks through a memory-mapped corpus."""


def prepare_corpus(mixed: Path, base: Path, new_token_ids: tuple[int, ...], config: FinetuneConfig, out: Path) -> dict[str, int]:
    """Tokenize the rows of ``mixed`` and write them to ``out``, unless an interrupted attempt has already completed that.

    Returns:
        Counts: the ``rows`` kept, and how many of them were ``truncated``.

    Raises:
        UserError: a row has more than ``config.max_seq_len`` tokens and ``config.long_rows`` is ``refuse``, or no row is left.
    """
    if not exists(complete := out.with_name(f"{out.name}.complete") if is_remote(out) else out):
        scratch = out if is_remote(out) else out.with_name(f"{out.name}.partial")
        remove(scratch)
        scratch.mkdir(parents=True)
        count = count_rows(mixed)
        # Each block may start a process that imports transformers, so blocks must be large enough to be worth it.
        ray_remote_args, num_blocks = get_one_core_options(), max(1, count // _ROWS_PER_BLOCK)
        rows = read_parquet(mixed, override_num_blocks=num_blocks, **ray_remote_args)
        tokenized = rows.map_batches(partial(_tokenize_block, base, new_token_ids, config), batch_format="pyarrow", **ray_remote_args)
        tokenized.write_datasink(CorpusSink(scratch), ray_remote_args=ray_remote_args)
        if is_remote(out):
            write_bytes(complete, b"")
        else:
            os.replace(scratch, out)
    inspect = partial(run_on_worker, _inspect, _INSPECTION_BYTES) if is_remote(out) else _inspect
    count, long_rows = inspect(out, config.max_seq_len)
    if not count:
        _discard(out, complete)
        raise UserError(f"finetune.max_seq_len: no row is left, since none has an answer within {config.max_seq_len} tokens; raise it")
    if long_rows and config.long_rows == "refuse":
        _discard(out, complete)
        (example_id, tokens), more = long_rows[0], f" ({len(long_rows) - 1} more are too long)" if len(long_rows) > 1 else ""
        raise UserError(
            f"row {example_id} has {tokens} tokens, more than finetune.max_seq_len={config.max_seq_len}{more}; "
            "raise it, shorten the row, or set finetune.long_rows to truncate or drop"
        )
    return {"rows": count, "truncated": len(long_rows) if config.long_rows == "truncate" else 0}


def _inspect(out: Path, max_tokens: int) -> tuple[int, list[tuple[str, int]]]:
    """Count the rows of a corpus, and list those that were longer than ``max_tokens``."""
    corpus = Corpus(fetch(out))
    return len(corpus), corpus.find_long_rows(max_tokens)


def _discard(out: Path, complete: Path) -> None:
    remove(complete)
    remove(out)


def _tokenize_block(base: Path, new_token_ids: tuple[int, ...], config: FinetuneConfig, table: pa.Table) -> pa.Table:
    rows = tokenize(_load_tokenizer(base), table.to_pylist(), config.train_on, new_token_ids)
    limit = config.max_seq_len
    columns = {
        **{name: table[name] for name in ("example_id", "group", "order_key")},
        "ids": [row.ids[:limit] for row in rows],
        "kinds": [row.kinds[:limit] for row in rows],
        "full_tokens": [len(row.ids) for row in rows],
    }
    return pa.table(columns, schema=CORPUS_SCHEMA).filter(pa.array([_is_kept(row, config) for row in rows]))


def _is_kept(row: TokenizedRow, config: FinetuneConfig) -> bool:
    match config.long_rows:
        case "refuse":
            return True
        case "drop":
            return len(row.ids) <= config.max_seq_len
        case "truncate":  # a row without any supervised token left is dropped
            return any(row.kinds[1 : config.max_seq_len])


@lru_cache(maxsize=1)
def _load_tokenizer(base: Path) -> Any:
    """Load the tokenizer once per process, whatever the number of blocks."""
    return load_tokenizer(base)
