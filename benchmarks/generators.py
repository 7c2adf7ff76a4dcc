"""One turn of answering the same prompts.  python -m benchmarks.generators vllm|ours|ray_data_llm|ray_data_llm_tokenising

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

from delia_ray.models import adopt_model, encode, load_tokenizer, resolve_dtype
from delia_ray.placement import ActorPool, Cluster, Engine
from delia_ray.progress import Reading
from delia_ray.runtime import connect, engine_kwargs, worker_environment
from delia_ray.synthesis.draws import DRAW_SCHEMA, new_draw
from delia_ray.synthesis.prompts import answer_prompt

WARM_ROWS, ROWS, ANSWER_TOKENS = 128, 256, 64
PARTS: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0.0},
    "temperature": {"temperature": 0.7},
    "top_p": {"temperature": 0.7, "top_p": 0.95},
}
MODEL = "builtin:smollm2-135m-instruct"
_ENGINE, _POOL, _MAX_MODEL_TOKENS = Engine(), ActorPool(), 2048
_LOOK_SECONDS = 0.5


class Landings:
    """Rows and tokens as they land; ``follow`` is what a stage calls on its line of the terminal."""

    def __init__(self) -> None:
        self._seen: list[tuple[float, int, int]] = []

    @contextmanager
    def follow(self, done: Reading, total: int, unit: str) -> Generator[None]:
        over = threading.Event()

        def look() -> None:
            while not over.wait(_LOOK_SECONDS):
                self._note(done)

        watcher = threading.Thread(target=look)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()
            self._note(done)

    def _note(self, done: Reading) -> None:
        rows, tokens = done.read()
        if not self._seen or rows != self._seen[-1][1]:
            self._seen.append((time.perf_counter(), rows, tokens))

    def say(self, text: str) -> None:
        pass

    def timed(self) -> dict[str, float]:
        """Tokens that landed after the warm-up, and the seconds they took."""
        first = next(seen for seen in self._seen if seen[1] >= WARM_ROWS)
        last = self._seen[-1]
        assert last[1:] == (WARM_ROWS + ROWS, (WARM_ROWS + ROWS) * ANSWER_TOKENS), last
        return {"work": last[2] - first[2], "seconds": last[0] - first[0]}


def prompts() -> list[str]:
    """Rendered prompts, all different."""
    tokenizer = load_tokenizer(adopt_model(MODEL).path)
    lines = resources.files("delia_ray.tasks").joinpath("data", "facts.jsonl").read_text(encoding="utf-8").splitlines()
    asked = [json.loads(line)["question"] for line in lines[: WARM_ROWS + ROWS]]
    rows = [{"query_id": "", "topic": "", "query": each, "reference": None} for each in asked]
    return [answer_prompt(tokenizer, row, "You are a helpful assistant.", "direct") for row in rows]  # pyright: ignore


def _sampling(part: str) -> dict[str, Any]:
    return PARTS[part] | {"max_tokens": ANSWER_TOKENS, "ignore_eos": True}


def _arguments() -> dict[str, Any]:
    return engine_kwargs(_ENGINE, str(resolve_dtype(_ENGINE.dtype)).removeprefix("torch."), _MAX_MODEL_TOKENS, 0)


def vllm() -> dict[str, dict[str, float]]:
    """``LLM.generate`` with all prompts at once; the greedy part again at the end, to see how quiet the machine is."""
    os.environ |= worker_environment()
    from vllm import LLM, SamplingParams

    llm = LLM(model=str(adopt_model(MODEL).path), **_arguments())
    asked = prompts()

    llm.generate(asked[:WARM_ROWS], SamplingParams(**_sampling("greedy")), use_tqdm=False)

    def part(name: str, *, seeded: bool = False) -> dict[str, float]:
        drawn = [SamplingParams(**_sampling(name), seed=row if seeded else None) for row in range(len(asked))]
        llm.generate(asked[: _ENGINE.max_num_seqs], SamplingParams(**_sampling(name) | {"max_tokens": 4}), use_tqdm=False)
        llm.reset_prefix_cache()  # the other arms see each prompt for the first time, too
        began = time.perf_counter()
        answers = llm.generate(asked[WARM_ROWS:], drawn[WARM_ROWS:], use_tqdm=False)
        seconds = time.perf_counter() - began
        tokens = sum(len(each.outputs[0].token_ids) for each in answers)
        assert tokens == ROWS * ANSWER_TOKENS
        return {"work": tokens, "seconds": seconds}

    return {**{name: part(name) for name in PARTS}, "top_p_seeded": part("top_p", seeded=True), "greedy_again": part("greedy")}


def ours() -> dict[str, dict[str, float]]:
    """As the stages do: through Ray Data into the store of drawn rows, each row under its own seed; then everything once more."""
    import ray.data

    from delia_ray.synthesis.config import VllmEngine
    from delia_ray.synthesis.draws import DrawStore
    from delia_ray.synthesis.generation import Generation, at_once, draw_and_judge

    connect(Cluster())
    scratch = Path(tempfile.mkdtemp(prefix="bench-"))
    model = adopt_model(MODEL).path
    generation = Generation(VllmEngine(), model, _ENGINE, _POOL, DrawStore(scratch / "draws"), 0.0)

    def part(name: str) -> dict[str, float]:
        given = list(enumerate(zip(prompts(), encode(load_tokenizer(model), prompts()), strict=True)))
        asked = [new_draw("", str(row), text, ids.ids, _sampling(name) | {"seed": row}, topic="") for row, (text, ids) in given]
        draws = ray.data.from_arrow(pa.Table.from_pylist(asked, schema=DRAW_SCHEMA))
        landings, began = Landings(), time.perf_counter()
        effort = draw_and_judge(at_once(draws), lambda row: {**row, "reason": ""}, generation, landings, "answers", scratch / name)[1]
        seconds = time.perf_counter() - began
        return landings.timed() if effort.drawn else {"work": effort.reused * ANSWER_TOKENS, "seconds": seconds}

    return {**{name: part(name) for name in PARTS}, "cached": part("greedy")}


def ray_data_llm(*, tokenising: bool) -> dict[str, dict[str, float]]:
    """A ``ray.data.llm`` processor that a user has tuned, its answers written to Parquet."""
    import ray.data
    from ray.data.llm import build_processor, vLLMEngineProcessorConfig

    from delia_ray.runtime import RayTally

    connect(Cluster())
    config = vLLMEngineProcessorConfig(
        model_source=str(adopt_model(MODEL).path), batch_size=16, max_concurrent_batches=16, concurrency=1, engine_kwargs=_arguments(),
        placement_group_config={"bundle_per_worker": {"CPU": 1}},
        chat_template_stage=False, tokenize_stage=tokenising, detokenize_stage=tokenising, log_engine_metrics=False,
    )  # fmt: skip
    tally = RayTally()

    def landed(rows: pa.Table) -> pa.Table:
        tally.add(rows=rows.num_rows, tokens=sum(rows["tokens"].to_pylist()))
        return rows

    process = build_processor(
        config,
        preprocess=lambda row: {"prompt": row["prompt"], "sampling_params": _sampling("greedy")},
        postprocess=lambda row: {"text": row["generated_text"], "tokens": row["num_generated_tokens"]},
    )
    asked = prompts()
    draws = ray.data.from_items([{"prompt": each} for each in asked], override_num_blocks=len(asked) // 16)
    landings = Landings()
    with landings.follow(tally, len(asked), "answers"):
        process(draws).map_batches(landed, batch_size=None, batch_format="pyarrow").write_parquet(tempfile.mkdtemp(prefix="bench-"))
    return {"greedy": landings.timed()}


ARMS = {
    "vllm": vllm,
    "ours": ours,
    "ray_data_llm": lambda: ray_data_llm(tokenising=False),
    "ray_data_llm_tokenising": lambda: ray_data_llm(tokenising=True),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("arm", choices=ARMS)
    parts = ARMS[parser.parse_args().arm]()
    total = {key: sum(part[key] for part in parts.values()) for key in ("work", "seconds")}
    print(json.dumps(total | {"rates": {name: part["work"] / part["seconds"] for name, part in parts.items()}}), flush=True)


if __name__ == "__main__":
    main()
