"""One turn of answering the same prompts.  python -m benchmarks.generators vllm|ours|ray_data_llm|ray_data_llm_tokenizing

Every answer is exactly ``ANSWER_TOKENS`` long, in all arms. The engine's start and the first ``WARM_ROWS`` are not timed.
"""

import argparse
import json
import os
import tempfile
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any

import pyarrow as pa

from delia_ray.core.progress import CountReader
from delia_ray.models import adopt_model, encode, load_tokenizer, resolve_dtype
from delia_ray.placement import ActorPool, Cluster, Engine
from delia_ray.ray_runtime.cluster import build_worker_environment, connect
from delia_ray.ray_runtime.vllm_arguments import build_engine_kwargs
from delia_ray.synthesis.prompts import render_answer_prompt
from delia_ray.synthesis.requests import REQUEST_SCHEMA, new_request

WARM_ROWS, ROWS, ANSWER_TOKENS = 128, 256, 64
PARTS: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0.0},
    "temperature": {"temperature": 0.7},
    "top_p": {"temperature": 0.7, "top_p": 0.95},
}
MODEL = "builtin:smollm2-135m-instruct"
_ENGINE, _POOL, _MAX_MODEL_TOKENS = Engine(), ActorPool(), 2048
_LOOK_SECONDS = 0.5


class CompletedRows:
    """Rows and tokens over time; ``track`` is what a stage calls on its line of the terminal."""

    def __init__(self) -> None:
        self._seen: list[tuple[float, int, int]] = []

    @contextmanager
    def track(self, counter: CountReader, total: int, unit: str) -> Generator[None]:
        over = threading.Event()

        def look() -> None:
            while not over.wait(_LOOK_SECONDS):
                self._note(counter)

        watcher = threading.Thread(target=look)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()
            self._note(counter)

    def _note(self, counter: CountReader) -> None:
        rows, tokens = counter.read()
        if not self._seen or rows != self._seen[-1][1]:
            self._seen.append((time.perf_counter(), rows, tokens))

    def set_status(self, text: str) -> None:
        pass

    def timed(self) -> dict[str, float]:
        """Tokens that were generated after the warm-up, and the seconds they took."""
        first = next(seen for seen in self._seen if seen[1] >= WARM_ROWS)
        last = self._seen[-1]
        assert last[1:] == (WARM_ROWS + ROWS, (WARM_ROWS + ROWS) * ANSWER_TOKENS), last
        return {"work": last[2] - first[2], "seconds": last[0] - first[0]}


def prompts() -> list[str]:
    """Rendered prompts, all different."""
    tokenizer = load_tokenizer(adopt_model(MODEL).path)
    lines = resources.files("delia_ray.tasks").joinpath("data", "facts.jsonl").read_text(encoding="utf-8").splitlines()
    questions = [json.loads(line)["question"] for line in lines[: WARM_ROWS + ROWS]]
    rows = [{"query_id": "", "topic": "", "query": each, "reference": None} for each in questions]
    return [render_answer_prompt(tokenizer, row, "You are a helpful assistant.", "direct") for row in rows]  # pyright: ignore


def _sampling(part: str, max_tokens: int = ANSWER_TOKENS) -> dict[str, Any]:
    return PARTS[part] | {"max_tokens": max_tokens, "ignore_eos": True}


def _arguments() -> dict[str, Any]:
    return build_engine_kwargs(_ENGINE, str(resolve_dtype(_ENGINE.dtype)).removeprefix("torch."), _MAX_MODEL_TOKENS, _POOL)


def vllm() -> dict[str, dict[str, float]]:
    """``LLM.generate`` with all prompts at once; the greedy part again at the end, to see how quiet the machine is."""
    os.environ |= build_worker_environment(is_local=True)
    from vllm import LLM, SamplingParams

    llm = LLM(model=str(adopt_model(MODEL).path), **_arguments())
    rendered = prompts()

    llm.generate(rendered[:WARM_ROWS], SamplingParams(**_sampling("greedy")), use_tqdm=False)

    def part(name: str, *, seeded: bool = False) -> dict[str, float]:
        sampling = [SamplingParams(**_sampling(name), seed=row if seeded else None) for row in range(len(rendered))]
        llm.generate(rendered[: _ENGINE.max_num_seqs], SamplingParams(**_sampling(name, max_tokens=4)), use_tqdm=False)
        llm.reset_prefix_cache()  # the other arms see each prompt for the first time, too
        started = time.perf_counter()
        answers = llm.generate(rendered[WARM_ROWS:], sampling[WARM_ROWS:], use_tqdm=False)
        seconds = time.perf_counter() - started
        tokens = sum(len(each.outputs[0].token_ids) for each in answers)
        assert tokens == ROWS * ANSWER_TOKENS
        return {"work": tokens, "seconds": seconds}

    return {**{name: part(name) for name in PARTS}, "top_p_seeded": part("top_p", seeded=True), "greedy_again": part("greedy")}


def ours() -> dict[str, dict[str, float]]:
    """As the stages do: through Ray Data into the completion cache, each row with its own seed; then everything again from the cache."""
    import ray.data

    from delia_ray.synthesis.config import VllmEngine
    from delia_ray.synthesis.generation.cache import CompletionCache
    from delia_ray.synthesis.generation.generate import GenerationSetup, generate_and_filter, static_requests

    connect(Cluster())
    scratch = Path(tempfile.mkdtemp(prefix="bench-"))
    model = adopt_model(MODEL).path
    setup = GenerationSetup(VllmEngine(), model, _ENGINE, _POOL, CompletionCache(scratch / "cache"), 0.0, lambda _=None: None)

    def part(name: str) -> dict[str, float]:
        encoded = list(enumerate(zip(prompts(), encode(load_tokenizer(model), prompts()), strict=True)))
        rows = [new_request("", str(row), text, ids.ids, _sampling(name) | {"seed": row}, topic="") for row, (text, ids) in encoded]
        strategy = static_requests(ray.data.from_arrow(pa.Table.from_pylist(rows, schema=REQUEST_SCHEMA)))
        progress, started = CompletedRows(), time.perf_counter()
        cost = generate_and_filter(strategy, lambda row: {**row, "reason": ""}, setup, progress, "answers", scratch / name)[1]
        seconds = time.perf_counter() - started
        return progress.timed() if cost.generated else {"work": cost.cached * ANSWER_TOKENS, "seconds": seconds}

    return {**{name: part(name) for name in PARTS}, "cached": part("greedy")}


def ray_data_llm(*, tokenizing: bool) -> dict[str, dict[str, float]]:
    """A ``ray.data.llm`` processor that a user has tuned, its answers written to Parquet."""
    import ray.data
    from ray.data.llm import build_processor, vLLMEngineProcessorConfig

    from delia_ray.ray_runtime.tally import RayTally

    connect(Cluster())
    config = vLLMEngineProcessorConfig(
        model_source=str(adopt_model(MODEL).path), batch_size=16, max_concurrent_batches=16, concurrency=1, engine_kwargs=_arguments(),
        placement_group_config={"bundle_per_worker": {"CPU": 1}},
        chat_template_stage=False, tokenize_stage=tokenizing, detokenize_stage=tokenizing, log_engine_metrics=False,
    )  # fmt: skip
    tally = RayTally()

    def count(rows: pa.Table) -> pa.Table:
        tally.add(rows=rows.num_rows, tokens=sum(rows["tokens"].to_pylist()))
        return rows

    process = build_processor(
        config,
        preprocess=lambda row: {"prompt": row["prompt"], "sampling_params": _sampling("greedy")},
        postprocess=lambda row: {"text": row["generated_text"], "tokens": row["num_generated_tokens"]},
    )
    rendered = prompts()
    requests = ray.data.from_items([{"prompt": each} for each in rendered], override_num_blocks=len(rendered) // 16)
    progress = CompletedRows()
    with progress.track(tally, len(rendered), "answers"):
        process(requests).map_batches(count, batch_size=None, batch_format="pyarrow").write_parquet(tempfile.mkdtemp(prefix="bench-"))
    return {"greedy": progress.timed()}


ARMS = {
    "vllm": vllm,
    "ours": ours,
    "ray_data_llm": lambda: ray_data_llm(tokenizing=False),
    "ray_data_llm_tokenizing": lambda: ray_data_llm(tokenizing=True),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("arm", choices=ARMS)
    parts = ARMS[parser.parse_args().arm]()
    total = {key: sum(part[key] for part in parts.values()) for key in ("work", "seconds")}
    print(json.dumps(total | {"rates": {name: part["work"] / part["seconds"] for name, part in parts.items()}}), flush=True)


if __name__ == "__main__":
    main()
