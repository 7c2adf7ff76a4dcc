"""Asks a model for wordings over an OpenAI-compatible endpoint. The only module of this folder that talks to one."""

import os
from collections.abc import Callable

from delia_ray.errors import UserError
from delia_ray.rewriting.config import ModelRewrite, RewriteConfig
from delia_ray.rewriting.stage import Complete

_MAX_TOKENS = 80
OWN_MODEL = "base"


def completer(config: RewriteConfig, own_endpoint: Callable[[], str]) -> Complete:
    """A function that completes one prompt at the configured endpoint, or at that of the tuned model itself.

    Kinds of rewriting that ask no model get one that must not be called.

    Args:
        own_endpoint: gives the URL of the tuned model's endpoint, and starts it on the first call.
    """
    if not isinstance(config, ModelRewrite):
        return _nobody
    from openai import OpenAI, OpenAIError  # noqa: PLC0415  a second to import, and only this kind of rewriting needs it

    client: OpenAI | None = None

    def complete(prompt: str, seed: int) -> str:
        nonlocal client
        url = config.endpoint or own_endpoint()
        client = client or OpenAI(base_url=url, api_key=os.environ.get("OPENAI_API_KEY", "none"))
        try:
            reply = client.chat.completions.create(
                model=config.endpoint_model or OWN_MODEL,
                messages=[{"role": "user", "content": prompt}],
                temperature=config.temperature,
                max_tokens=_MAX_TOKENS,
                seed=seed,
            )
        except OpenAIError as error:
            raise UserError(f"rewrite.endpoint: {url}: {error}; check that it is up, its model name, and OPENAI_API_KEY") from None
        return reply.choices[0].message.content or ""

    return complete


def _nobody(prompt: str, seed: int) -> str:
    raise AssertionError("only rewrite.kind=model asks a model")
