"""Completion of generation requests by a server with the OpenAI API."""

import json
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from delia_ray.synthesis.config import OpenAIEngine
from delia_ray.synthesis.requests import RESULT_SCHEMA, copy_request_fields

if TYPE_CHECKING:
    from openai import OpenAI

_RETRIES = 6
"""With the client's exponential backoff, half a minute of an overloaded or restarting server."""
_API_PARAMETERS = ("temperature", "top_p", "max_tokens", "stop", "seed")
"""Parameters of the API itself; all others are vLLM's and are sent as ``extra_body``."""
_VLLM_DEFAULTS = {"add_special_tokens": False, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
"""The prompt is already rendered, and the defaults of the model's ``generation_config.json`` must not apply."""


def complete_on_server(backend: OpenAIEngine, requests: pa.Table) -> pa.Table:
    """Complete the requests of a batch concurrently; the batch size bounds the requests in flight.

    Overload, timeouts and lost connections are retried with exponential backoff. The key comes from ``OPENAI_API_KEY``.
    """
    from openai import OpenAI  # noqa: PLC0415  a second to import

    rows = requests.to_pylist()
    if not rows:
        return RESULT_SCHEMA.empty_table()
    with (
        OpenAI(base_url=backend.url, api_key=os.environ.get("OPENAI_API_KEY", "none"), max_retries=_RETRIES) as client,
        ThreadPoolExecutor(len(rows)) as threads,
    ):
        return pa.Table.from_pylist(list(threads.map(lambda row: _complete(client, backend.model, row), rows)), schema=RESULT_SCHEMA)


def _complete(client: "OpenAI", model: str, row: Mapping[str, Any]) -> dict[str, Any]:
    from openai import OpenAIError  # noqa: PLC0415

    sampling = json.loads(row["sampling"])
    api_parameters = {name: sampling[name] for name in _API_PARAMETERS if name in sampling}
    extra = {name: value for name, value in sampling.items() if name not in _API_PARAMETERS and (value or value is False)}
    empty = {"text": "", "finished": False, "prompt_tokens": 0, "answer_tokens": 0}
    try:
        reply = client.completions.create(model=model, prompt=row["prompt"], extra_body={**_VLLM_DEFAULTS, **extra}, **api_parameters)
    except OpenAIError as error:
        return {**copy_request_fields(row), **empty, "error": str(error) or type(error).__name__}
    choice, usage = reply.choices[0], reply.usage
    return {
        **copy_request_fields(row),
        "text": choice.text.strip(),
        "finished": choice.finish_reason == "stop",
        "prompt_tokens": usage.prompt_tokens if usage else 0,
        "answer_tokens": usage.completion_tokens if usage else 0,
        "error": "",
    }
