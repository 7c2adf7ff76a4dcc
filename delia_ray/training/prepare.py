"""Tokenise a mixture with Ray Data, block by block: nothing passes through the driver."""

import os
import shutil
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import ray.data

from delia_ray.errors import UserError
from delia_ray.models import load_tokenizer
from delia_ray.runtime import one_core
from delia_ray.training.config import FinetuneConfig
from delia_ray.training.corpus import CORPUS_SCHEMA, Corpus, CorpusSink
from delia_ray.training.tokens import TokenisedRow, tokenise

_ROWS_PER_BLOCK = 10_000


def prepare_corpus(mixed: Path, start: Path, new_token_ids: tuple[int, ...], config: FinetuneConfig, out: Path) -> dict[str, int]:
    """Write the tokenised rows of ``mixed`` to ``out``, unless a killed attempt has left them there whole.

    Returns:
        Counts: ``rows`` that are left, and how many of those were ``truncated``.

    Raises:
        UserError: a row has more than ``config.max_row_tokens`` and ``config.long_rows`` refuses it; or no row is left.
    """
    if not out.exists():
        scratch = out.with_name(f"{out.name}.partial")
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        count = sum(pq.read_metadata(file).num_rows for file in mixed.glob("*.parquet"))
        # Every block may cost a process that imports transformers, so a block must be worth it.
        where, blocks = one_core(), max(1, count // _ROWS_PER_BLOCK)
        rows = ray.data.read_parquet(str(mixed), override_num_blocks=blocks, **where)
        tokenised = rows.map_batches(partial(_tokenised, start, new_token_ids, config), batch_format="pyarrow", **where)
        tokenised.write_datasink(CorpusSink(scratch), ray_remote_args=where)
        os.replace(scratch, out)
    corpus = Corpus(out)
    if not len(corpus):
        shutil.rmtree(out)
        raise UserError(
            f"finetune.max_row_tokens: no row is left, since none has an answer within {config.max_row_tokens} tokens; raise it"
        )
    over = corpus.rows_over(config.max_row_tokens)
    if over and config.long_rows == "refuse":
        shutil.rmtree(out)
        (identifier, tokens), more = over[0], f" ({len(over) - 1} more are too long)" if len(over) > 1 else ""
        raise UserError(
            f"row {identifier} has {tokens} tokens, more than finetune.max_row_tokens={config.max_row_tokens}{more}; "
            "raise it, shorten the row, or set finetune.long_rows to truncate or drop"
        )
    return {"rows": len(corpus), "truncated": len(over) if config.long_rows == "truncate" else 0}


def _tokenised(start: Path, new_token_ids: tuple[int, ...], config: FinetuneConfig, table: pa.Table) -> pa.Table:
    rows = tokenise(_tokenizer(start), table.to_pylist(), config.learn, new_token_ids)
    kept = config.max_row_tokens
    columns = {
        **{name: table[name] for name in ("example_id", "group", "order_key")},
        "ids": [row.ids[:kept] for row in rows],
        "kinds": [row.kinds[:kept] for row in rows],
        "full_tokens": [len(row.ids) for row in rows],
    }
    return pa.table(columns, schema=CORPUS_SCHEMA).filter(pa.array([_stays(row, config) for row in rows]))


def _stays(row: TokenisedRow, config: FinetuneConfig) -> bool:
    match config.long_rows:
        case "refuse":
            return True
        case "drop":
            return len(row.ids) <= config.max_row_tokens
        case "truncate":  # what has lost its whole answer teaches nothing
            return any(row.kinds[1 : config.max_row_tokens])


@lru_cache(maxsize=1)
def _tokenizer(start: Path) -> Any:
    """Once a process, whatever the number of blocks."""
    return load_tokenizer(start)
