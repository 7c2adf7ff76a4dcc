"""Draws from a server with the OpenAI API, for models that run elsewhere."""

import json
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from delia_ray.synthesis.config import OpenAIEngine
from delia_ray.synthesis.draws import DRAWN_SCHEMA, carried

if TYPE_CHECKING:
    from openai import OpenAI

_RETRIES = 6
"""With the client's doubling pauses, half a minute of an overloaded or restarting server."""
_PLAIN = ("temperature", "top_p", "max_tokens", "stop", "seed")
"""Parameters of the API itself; others, which vLLM's server understands, travel beside them."""
_SERVER = {"add_special_tokens": False, "top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}
"""The prompt is rendered already, and what a model's own configuration says of sampling is not what was asked for."""


def ask_server(kind: OpenAIEngine, draws: pa.Table) -> pa.Table:
    """Continue each draw of a batch, all at once; the batch's size bounds the requests in flight.

    Overload, time-outs and lost connections are tried again with growing pauses. The key comes from ``OPENAI_API_KEY``.
    """
    from openai import OpenAI  # noqa: PLC0415  a second to import

    rows = draws.to_pylist()
    if not rows:
        return DRAWN_SCHEMA.empty_table()
    with (
        OpenAI(base_url=kind.url, api_key=os.environ.get("OPENAI_API_KEY", "none"), max_retries=_RETRIES) as client,
        ThreadPoolExecutor(len(rows)) as threads,
    ):
        return pa.Table.from_pylist(list(threads.map(lambda row: _ask(client, kind.model, row), rows)), schema=DRAWN_SCHEMA)


def _ask(client: "OpenAI", model: str, row: Mapping[str, Any]) -> dict[str, Any]:
    from openai import OpenAIError  # noqa: PLC0415

    sampling = json.loads(row["sampling"])
    plain = {name: sampling[name] for name in _PLAIN if name in sampling}
    others = {**_SERVER, **{name: value for name, value in sampling.items() if name not in _PLAIN and (value or value is False)}}
    nothing = {"text": "", "finished": False, "prompt_tokens": 0, "answer_tokens": 0}
    try:
        reply = client.completions.create(model=model, prompt=row["prompt"], extra_body=others, **plain)
    except OpenAIError as error:
        return {**carried(row), **nothing, "error": str(error) or type(error).__name__}
    choice, usage = reply.choices[0], reply.usage
    return {
        **carried(row),
        "text": choice.text.strip(),
        "finished": choice.finish_reason == "stop",
        "prompt_tokens": usage.prompt_tokens if usage else 0,
        "answer_tokens": usage.completion_tokens if usage else 0,
        "error": "",
    }
