"""Client of a live OpenAI-compatible endpoint: greedy chat completions, many requests at a time."""

import asyncio
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

from openai import APIConnectionError, APIStatusError, AsyncOpenAI, BadRequestError, OpenAI

from delia_ray.core.errors import UserError
from delia_ray.core.progress import Tally
from delia_ray.core.records import Message
from delia_ray.tasks.format_task import Prompt

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletionMessageParam

_ANSWER_TIMEOUT_SECONDS = 600.0  # on a busy CPU a request waits for those before it
_LIST_TIMEOUT_SECONDS = 30.0
_RETRIES = 4

# vLLM's own field. Without it the text of an answer lacks its special tokens, and an answer that is only partly in the format
# could pass as wholly in the format. The end-of-sequence token is left out either way.
_RAW_TEXT = {"skip_special_tokens": False}


class LocalTally:
    """A ``Tally`` of answers and tokens within this process, without a Ray actor."""

    def __init__(self) -> None:
        self._rows = 0
        self._tokens = 0

    def add(self, *, rows: int = 0, tokens: int = 0) -> None:
        self._rows += rows
        self._tokens += tokens

    def read(self) -> tuple[int, int]:
        return self._rows, self._tokens


def check_served_model(base_url: str, model: str, fingerprint: str) -> None:
    """Check that the endpoint serves exactly the build of the model that is being scored.

    Args:
        base_url: URL of the endpoint, ``/v1`` included.
        model: name of the model at the endpoint.
        fingerprint: fingerprint of the model's artifact; ``/v1/models`` reports it as ``metadata.fingerprint``.

    Raises:
        UserError: the endpoint does not answer, does not list the model, or serves another build of it.
    """
    try:
        with OpenAI(base_url=base_url, api_key=_api_key(), timeout=_LIST_TIMEOUT_SECONDS, max_retries=_RETRIES) as client:
            cards: dict[str, dict[str, Any]] = {card.id: card.to_dict() for card in client.models.list()}
    except APIConnectionError as error:
        raise UserError(f"endpoint {base_url}: no answer ({error}); start it, or free the port that it should listen on") from None
    except APIStatusError as error:
        raise UserError(f"endpoint {base_url}: /models answers status {error.status_code}; name an OpenAI-compatible endpoint") from None
    if model not in cards:
        raise UserError(f"endpoint {base_url}: serves no model {model!r}, only {', '.join(sorted(cards)) or 'none'}; serve that model too")
    metadata: Any = cards[model].get("metadata")
    served = metadata.get("fingerprint") if metadata else None
    if served != fingerprint:
        raise UserError(
            f"endpoint {base_url}: {model!r} there has fingerprint {served}, but {fingerprint} is expected; restart it on this run's models"
        )


def answer_prompts(
    base_url: str, model: str, prompts: Sequence[Prompt], max_tokens: Callable[[Prompt], int], max_concurrency: int, tally: Tally
) -> list[str]:
    """Generate the raw greedy answers to ``prompts``, in their order.

    Answers are neither stripped nor truncated: special tokens inside an answer stay in the text, only the end-of-sequence token does not.
    The client retries a request that fails for a transient reason.

    Args:
        base_url: URL of the endpoint, ``/v1`` included. An API key is read from ``OPENAI_API_KEY``, if the endpoint needs one.
        model: name of the model at the endpoint.
        prompts: the prompts.
        max_tokens: gives the longest answer to a prompt, in tokens.
        max_concurrency: the most requests in flight at the same time.
        tally: counts answers and their tokens as they arrive.

    Raises:
        UserError: the endpoint refuses a prompt, for example one that is too long for the model.
    """
    return asyncio.run(_answer_prompts(base_url, model, prompts, max_tokens, max_concurrency, tally))


def answer_conversations(
    base_url: str, model: str, conversations: Sequence[list[Message]], max_tokens: int, max_concurrency: int
) -> list[str]:
    """Generate the raw greedy answers to ``conversations``, without progress counts (see ``answer_prompts``)."""
    prompts = [Prompt(str(index), "test", messages, None, None) for index, messages in enumerate(conversations)]
    return answer_prompts(base_url, model, prompts, lambda _: max_tokens, max_concurrency, LocalTally())


async def _answer_prompts(
    base_url: str, model: str, prompts: Sequence[Prompt], max_tokens: Callable[[Prompt], int], max_concurrency: int, tally: Tally
) -> list[str]:
    semaphore = asyncio.Semaphore(max_concurrency)

    async def ask(client: AsyncOpenAI, prompt: Prompt) -> str:
        async with semaphore:
            try:
                completion = await client.chat.completions.create(
                    model=model,
                    messages=cast("list[ChatCompletionMessageParam]", prompt.messages),
                    temperature=0.0,
                    max_tokens=max_tokens(prompt),
                    extra_body=_RAW_TEXT,
                )
            except BadRequestError as error:
                reason = " ".join(error.message.split())
                raise UserError(
                    f"endpoint {base_url}: refuses prompt {prompt.prompt_id} ({reason}); shorten that row, or lower score.max_tokens"
                ) from None
        tally.add(rows=1, tokens=completion.usage.completion_tokens if completion.usage else 0)
        return completion.choices[0].message.content or ""

    async with AsyncOpenAI(base_url=base_url, api_key=_api_key(), timeout=_ANSWER_TIMEOUT_SECONDS, max_retries=_RETRIES) as client:
        return await asyncio.gather(*(ask(client, prompt) for prompt in prompts))


def _api_key() -> str:
    return os.environ.get("OPENAI_API_KEY") or "none"  # the client requires a key
