"""Client of a live OpenAI-compatible endpoint: greedy chat completions, many requests at a time."""

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from openai import APIConnectionError, APIStatusError, AsyncOpenAI, BadRequestError, InternalServerError, OpenAI

from delia_ray.core.errors import UserError
from delia_ray.core.progress import Tally
from delia_ray.core.records import Message
from delia_ray.evaluation.answer_cache import AnswerLog, LoggedAnswer
from delia_ray.ray_runtime.metrics import current_labels, record
from delia_ray.tasks.format_task import Prompt

if TYPE_CHECKING:
    from openai.types.chat import ChatCompletionMessageParam

_ANSWER_TIMEOUT_SECONDS = 600.0  # on a busy CPU a request waits for those before it
_LIST_TIMEOUT_SECONDS = 30.0
_RETRIES = 4
_PAUSE_SECONDS = 2.0

# vLLM's own field. Without it the text of an answer lacks its special tokens, and an answer that is only partly in the format
# could pass as wholly in the format. The end-of-sequence token is left out either way.
_RAW_TEXT = {"skip_special_tokens": False}


class LocalTally:
    """A ``Tally`` of answers and tokens within this process, without a Ray actor."""

    def __init__(self) -> None:
        self._rows = 0
        self._tokens = 0
        self._labels = current_labels()

    def add(self, *, rows: int = 0, tokens: int = 0) -> None:
        self._rows += rows
        self._tokens += tokens
        record("delia_ray_rows", rows, self._labels)
        record("delia_ray_tokens", tokens, self._labels)

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


@dataclass(frozen=True)
class Asking:
    """How prompts are put to an endpoint."""

    base_url: str
    """URL of the endpoint, ``/v1`` included. An API key is read from ``OPENAI_API_KEY``, if the endpoint needs one."""
    model: str
    """Name of the model at the endpoint."""
    max_concurrency: int
    """The most requests in flight at the same time."""
    patience_s: float
    """How long to ask again while no replica answers, in seconds: one that died is replaced, and loads its model anew."""


def answer_prompts(
    asking: Asking, prompts: Sequence[Prompt], max_tokens: Callable[[Prompt], int], tally: Tally, log: AnswerLog | None = None
) -> list[str]:
    """Generate the raw greedy answers to ``prompts``, in their order.

    Answers are neither stripped nor truncated: special tokens inside an answer stay in the text, only the end-of-sequence token does not.

    Args:
        asking: the endpoint, and how it is asked.
        prompts: the prompts.
        max_tokens: gives the longest answer to a prompt, in tokens.
        tally: counts answers and their tokens as they arrive.
        log: receives every answer as it arrives; prompts that it has an answer to are not asked.

    Raises:
        UserError: the endpoint refuses a prompt, for example one that is too long for the model, or stays away too long.
    """
    logged = {} if log is None else log.read()
    for answer in (logged[prompt.prompt_id] for prompt in prompts if prompt.prompt_id in logged):
        tally.add(rows=1, tokens=answer.tokens)

    def keep(prompt: Prompt, answer: LoggedAnswer) -> None:
        logged[prompt.prompt_id] = answer
        tally.add(rows=1, tokens=answer.tokens)
        if log is not None:
            log.add(prompt.prompt_id, answer)

    asyncio.run(_ask_all(asking, [prompt for prompt in prompts if prompt.prompt_id not in logged], max_tokens, keep))
    return [logged[prompt.prompt_id].text for prompt in prompts]


def answer_conversations(asking: Asking, conversations: Sequence[list[Message]], max_tokens: int) -> list[str]:
    """Generate the raw greedy answers to ``conversations``, without progress counts (see ``answer_prompts``)."""
    prompts = [Prompt(str(index), "test", messages, None, None) for index, messages in enumerate(conversations)]
    return answer_prompts(asking, prompts, lambda _: max_tokens, LocalTally())


async def _ask_all(
    asking: Asking, prompts: Sequence[Prompt], max_tokens: Callable[[Prompt], int], keep: Callable[[Prompt, LoggedAnswer], None]
) -> None:
    semaphore = asyncio.Semaphore(asking.max_concurrency)

    async def ask(client: AsyncOpenAI, prompt: Prompt) -> None:
        async with semaphore:
            keep(prompt, await _ask_patiently(client, asking, prompt, max_tokens(prompt)))

    async with AsyncOpenAI(base_url=asking.base_url, api_key=_api_key(), timeout=_ANSWER_TIMEOUT_SECONDS, max_retries=_RETRIES) as client:
        await asyncio.gather(*(ask(client, prompt) for prompt in prompts))


async def _ask_patiently(client: AsyncOpenAI, asking: Asking, prompt: Prompt, max_tokens: int) -> LoggedAnswer:
    """Ask until there is an answer, or for ``asking.patience_s`` in vain; the client itself retries for some seconds only."""
    until = time.monotonic() + asking.patience_s
    while True:
        try:
            return await _ask(client, asking.model, prompt, max_tokens)
        except BadRequestError as error:
            reason = " ".join(error.message.split())
            raise UserError(
                f"endpoint {asking.base_url}: refuses prompt {prompt.prompt_id} ({reason}); shorten that row, or lower score.max_tokens"
            ) from None
        except (APIConnectionError, InternalServerError) as error:
            if time.monotonic() > until:
                reason = " ".join(error.message.split())[:200]
                raise UserError(
                    f"endpoint {asking.base_url}: no answer to prompt {prompt.prompt_id} in {asking.patience_s:g} s ({reason}); the "
                    "replicas' logs say why. Answers so far are kept, and the same command asks for the others"
                ) from None
        await asyncio.sleep(_PAUSE_SECONDS)


async def _ask(client: AsyncOpenAI, model: str, prompt: Prompt, max_tokens: int) -> LoggedAnswer:
    completion = await client.chat.completions.create(
        model=model,
        messages=cast("list[ChatCompletionMessageParam]", prompt.messages),
        temperature=0.0,
        max_tokens=max_tokens,
        extra_body=_RAW_TEXT,
    )
    tokens = completion.usage.completion_tokens if completion.usage else 0
    return LoggedAnswer(completion.choices[0].message.content or "", tokens)


def _api_key() -> str:
    return os.environ.get("OPENAI_API_KEY") or "none"  # the client requires a key
