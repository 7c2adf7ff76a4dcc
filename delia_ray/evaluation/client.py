"""Questions to a live OpenAI-compatible endpoint, many at a time, greedily."""

import asyncio
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

from openai import APIConnectionError, APIStatusError, AsyncOpenAI, BadRequestError, OpenAI

from delia_ray.errors import UserError
from delia_ray.progress import Tally
from delia_ray.records import Message
from delia_ray.tasks.formatted import Prompt

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletionMessageParam

_ANSWER_TIMEOUT_SECONDS = 600.0  # on a busy CPU an answer waits for those before it
_LIST_TIMEOUT_SECONDS = 30.0
_RETRIES = 4

# vLLM's own field. Without it a special token inside an answer vanishes from the text, which could make an answer look as if
# the whole of it were in the format. The token that ends an answer is left out either way.
_RAW_TEXT = {"skip_special_tokens": False}


class LocalTally:
    """A ``Tally`` for answers that arrive in this very process: no actor has to start for it."""

    def __init__(self) -> None:
        self._rows = 0
        self._tokens = 0

    def add(self, *, rows: int = 0, tokens: int = 0) -> None:
        self._rows += rows
        self._tokens += tokens

    def read(self) -> tuple[int, int]:
        return self._rows, self._tokens


def check_served(base_url: str, model: str, fingerprint: str) -> None:
    """Refuse an endpoint that does not serve exactly the build that is to be scored.

    Args:
        base_url: of the endpoint, ``/v1`` included.
        model: its name there.
        fingerprint: of the artifact; ``/v1/models`` tells it as ``metadata.fingerprint``.

    Raises:
        UserError: nothing answers there, the model is not listed, or it is another build.
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
            f"endpoint {base_url}: {model!r} there has fingerprint {served}, but {fingerprint} is wanted; restart it on this run's models"
        )


def answer_all(
    base_url: str, model: str, prompts: Sequence[Prompt], max_tokens: Callable[[Prompt], int], in_flight: int, tally: Tally
) -> list[str]:
    """The raw greedy answers to ``prompts``, in their order.

    What the endpoint sends is neither trimmed nor cut: special tokens inside an answer are in the text, only the one that ends it is not.
    An answer that fails for a reason that may pass is asked for again, by the client's own rules.

    Args:
        base_url: of the endpoint, ``/v1`` included. The key comes from ``OPENAI_API_KEY``, if it wants one.
        model: its name there.
        prompts: what to ask.
        max_tokens: the longest answer to a prompt, in tokens.
        in_flight: questions asked at the same time, at most.
        tally: counts answers and their tokens as they arrive.

    Raises:
        UserError: the endpoint refuses a prompt, as one that is too long for the model.
    """
    return asyncio.run(_answer_all(base_url, model, prompts, max_tokens, in_flight, tally))


def answer_conversations(base_url: str, model: str, conversations: Sequence[list[Message]], max_tokens: int, in_flight: int) -> list[str]:
    """The raw greedy answers to conversations that nobody counts (see ``answer_all``)."""
    prompts = [Prompt(str(place), "test", messages, None, None) for place, messages in enumerate(conversations)]
    return answer_all(base_url, model, prompts, lambda _: max_tokens, in_flight, LocalTally())


async def _answer_all(
    base_url: str, model: str, prompts: Sequence[Prompt], max_tokens: Callable[[Prompt], int], in_flight: int, tally: Tally
) -> list[str]:
    gate = asyncio.Semaphore(in_flight)

    async def ask(client: AsyncOpenAI, prompt: Prompt) -> str:
        async with gate:
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
    return os.environ.get("OPENAI_API_KEY") or "none"  # the client insists on one
