"""An engine that waits instead of computing, in the place of vLLM: the same operators around it, and an actor pool of its own."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import ray.data

from delia_ray.placement import ActorPool, Engine
from delia_ray.ray_runtime.tally import RayTally
from delia_ray.synthesis.config import GenerationEngine
from delia_ray.synthesis.engines.metering import Stopwatch
from delia_ray.synthesis.requests import RESULT_SCHEMA, copy_request_fields

ANSWER_TOKENS = 64
_COLUMN = "__data"
"""``ray.data.llm`` packs a row into a column of this name, too."""
_WORDS = "the quick answer of a model that was never loaded has as many words as one that was and says about as much to a reader ".split()
_ANSWER_WORDS = 40


class MockEngine:
    """Answers one batch after another, each ``seconds`` after the one before; batches queue as they do in an engine."""

    def __init__(self, seconds: float, tally: RayTally):
        self._seconds, self._stopwatch, self._turn = seconds, Stopwatch(tally), asyncio.Lock()

    async def __call__(self, batch: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        async with self._turn:
            await asyncio.sleep(self._seconds)
        yield {_COLUMN: [row | {"text": write_text(row["row_id"])} for row in batch[_COLUMN].tolist()]}
        self._stopwatch.report()


def generate_with_mock(
    seconds: float,
    requests: ray.data.Dataset,
    backend: GenerationEngine,
    model: Path,
    engine: Engine,
    pool: ActorPool,
    tally: RayTally,
) -> ray.data.Dataset:
    """Complete each ``GenerationRequest`` as ``engines.engine.generate`` does, ``seconds`` a batch."""
    compute = ray.data.ActorPoolStrategy(min_size=pool.least, max_size=pool.most, max_tasks_in_flight_per_actor=2 * pool.concurrent_batches)
    answers = requests.map(_pack).map_batches(
        MockEngine,
        fn_constructor_kwargs={"seconds": seconds, "tally": tally},
        batch_size=pool.batch_rows,
        compute=compute,
        max_concurrency=pool.concurrent_batches,
        num_cpus=pool.num_cpus,
    )
    return answers.map(_to_result)


def write_text(row_id: str) -> str:
    """Write a text of some 200 characters that no other id has and no filter rejects."""
    number = int(row_id[-8:])
    words = [_WORDS[(number + place * place) % len(_WORDS)] for place in range(_ANSWER_WORDS)]
    return f"{row_id} {' '.join(words)}."


def _pack(row: dict[str, Any]) -> dict[str, Any]:
    return {_COLUMN: copy_request_fields(row) | {"tokenized_prompt": row["prompt_ids"], "sampling_params": json.loads(row["sampling"])}}


def _to_result(row: dict[str, Any]) -> dict[str, Any]:
    answer = row[_COLUMN]
    found = {**copy_request_fields(answer), "text": answer["text"], "finished": True, "prompt_tokens": len(answer["tokenized_prompt"]),
             "answer_tokens": ANSWER_TOKENS, "error": ""}  # fmt: skip
    return {name: found[name] for name in RESULT_SCHEMA.names}
