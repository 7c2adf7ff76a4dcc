"""Client that completes paraphrase prompts over an OpenAI-compatible endpoint. No other module of this folder talks to an endpoint."""

import os
from collections.abc import Callable

from delia_ray.core.errors import UserError
from delia_ray.rewriting.config import ModelRewrite, RewriteConfig
from delia_ray.rewriting.stage import Complete

_MAX_TOKENS = 80
OWN_MODEL = "base"
"""Name of the base model at the endpoint of the run."""


def make_completer(config: RewriteConfig, own_endpoint: Callable[[], str]) -> Complete:
    """Make a function that completes one prompt at the configured endpoint, or at that of the base model.

    For a kind of rewriting that needs no model, the function raises ``AssertionError``.

    Args:
        config: the kind of rewriting, and its endpoint.
        own_endpoint: returns the URL of the base model's endpoint, and starts it on the first call.
    """
    if not isinstance(config, ModelRewrite):
        return _refuse_to_complete
    from openai import OpenAI, OpenAIError  # noqa: PLC0415  a second to import, and only this kind of rewriting needs it

    client: OpenAI | None = None

    def complete(prompt: str, seed: int) -> str:
        nonlocal client
        url = config.endpoint or own_endpoint()
        client = client or OpenAI(base_url=url, api_key=os.environ.get("OPENAI_API_KEY", "none"))
        try:
            completion = client.chat.completions.create(
                model=config.endpoint_model or OWN_MODEL,
                messages=[{"role": "user", "content": prompt}],
                temperature=config.temperature,
                max_tokens=_MAX_TOKENS,
                seed=seed,
            )
        except OpenAIError as error:
            raise UserError(f"rewrite.endpoint: {url}: {error}; check that it is up, its model name, and OPENAI_API_KEY") from None
        return completion.choices[0].message.content or ""

    return complete


def _refuse_to_complete(prompt: str, seed: int) -> str:
    raise AssertionError("only rewrite.kind=model completes prompts")
