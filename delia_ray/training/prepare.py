"""Tokenise a mixture with Ray Data, block by block: nothing passes through the driver."""

import os
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import ray.data

from delia_ray.errors import UserError
from delia_ray.models import load_tokenizer
from delia_ray.training.config import FinetuneConfig
from delia_ray.training.corpus import CORPUS_SCHEMA, Corpus, CorpusSink
from delia_ray.training.tokens import tokenise

_ROWS_PER_BLOCK = 10_000


def prepare_corpus(mixed: Path, start: Path, new_token_ids: tuple[int, ...], config: FinetuneConfig, out: Path) -> dict[str, int]:
    """Write the tokenised rows of ``mixed`` to ``out``, unless a killed attempt has left them there whole.

    Returns:
        Counts: ``rows``, and of those that were too long, ``truncated`` and ``dropped``.

    Raises:
        UserError: a row has more than ``config.max_row_tokens`` and ``config.long_rows`` refuses it; or no row is left.
    """
    if not out.exists():
        scratch = out.with_name(f"{out.name}.partial")
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        count = sum(pq.read_metadata(file).num_rows for file in mixed.glob("*.parquet"))
        # Every block may cost a process that imports transformers, so a block must be worth it.
        rows = ray.data.read_parquet(str(mixed), override_num_blocks=max(1, count // _ROWS_PER_BLOCK))
        rows.map_batches(_Tokenise(start, new_token_ids, config), batch_format="pyarrow").write_datasink(CorpusSink(scratch))
        os.replace(scratch, out)
    corpus = Corpus(out)
    over = corpus.rows_over(config.max_row_tokens)
    if over and config.long_rows == "refuse":
        shutil.rmtree(out)
        (identifier, tokens), more = over[0], f" ({len(over) - 1} more are too long)" if len(over) > 1 else ""
        raise UserError(
            f"row {identifier} has {tokens} tokens, more than finetune.max_row_tokens={config.max_row_tokens}{more}; "
            "raise it, shorten the row, or set finetune.long_rows to truncate or drop"
        )
    return {"rows": len(corpus), "truncated": len(over) if config.long_rows == "truncate" else 0}


class _Tokenise:
    """Tokenises a batch. The tokenizer is loaded where it runs, once a worker."""

    def __init__(self, start: Path, new_token_ids: tuple[int, ...], config: FinetuneConfig):
        self._start = start
        self._new_token_ids = new_token_ids
        self._config = config
        self._tokenizer: Any = None

    def __call__(self, table: pa.Table) -> pa.Table:
        self._tokenizer = self._tokenizer or load_tokenizer(self._start)
        rows: list[dict[str, Any]] = []
        for example in table.to_pylist():
            row = tokenise(self._tokenizer, example, self._config.learn, self._new_token_ids)
            kept = self._config.max_row_tokens
            if len(row.ids) > kept and self._config.long_rows == "drop":
                continue
            named = {name: example[name] for name in ("example_id", "group", "order_key")}
            rows.append({**named, "ids": row.ids[:kept], "kinds": row.kinds[:kept], "full_tokens": len(row.ids)})
        return pa.Table.from_pylist(rows, schema=CORPUS_SCHEMA)
