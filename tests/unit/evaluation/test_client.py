import asyncio
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from delia_ray.core.errors import UserError
from delia_ray.evaluation import client
from delia_ray.evaluation.answer_cache import AnswerLog
from delia_ray.evaluation.client import Asking, LocalTally, answer_prompts, check_served_model
from delia_ray.tasks.format_task import Prompt

LIMIT = 4


class Endpoint:
    """An OpenAI-compatible endpoint that answers with the text of the question.

    It answers only when ``together`` requests are active at once, and the question ``slow`` only after ``others`` answers.
    """

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/v1"
        self.together = 1
        self.others = 0
        self.failures = 0
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.active = 0
        self.most_active = 0
        self._answered = 0
        self._changed = asyncio.Condition()

    async def models(self, request: Request) -> Response:
        cards = [
            {"id": "delia", "object": "model", "created": 0, "owned_by": "us", "metadata": {"fingerprint": "0123456789ab"}},
            {"id": "bare", "object": "model", "created": 0, "owned_by": "us"},
        ]
        return JSONResponse({"object": "list", "data": cards})

    async def chat(self, request: Request) -> Response:
        body = await request.json()
        self.bodies.append(body)
        self.keys.append(request.headers.get("authorization"))
        if self.failures:
            self.failures -= 1
            return JSONResponse({"error": {"message": "busy"}}, 503, {"retry-after-ms": "1"})
        question = body["messages"][-1]["content"]
        if question == "too long":
            return JSONResponse({"error": {"message": "maximum context length\nis 2048 tokens"}}, 400)
        self.active += 1
        self.most_active = max(self.most_active, self.active)
        async with self._changed, asyncio.timeout(10):
            self._changed.notify_all()
            await self._changed.wait_for(lambda: self.most_active >= self.together)
            if question == "slow":
                await self._changed.wait_for(lambda: self._answered >= self.others)
            self._answered += 1
            self._changed.notify_all()
        self.active -= 1
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": f" {question}\n"}}
        usage = {"prompt_tokens": 1, "completion_tokens": 3, "total_tokens": 4}
        return JSONResponse({"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice], "usage": usage})

    def routes(self) -> list[Route]:
        return [Route("/v1/models", self.models), Route("/v1/chat/completions", self.chat, methods=["POST"])]


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        endpoint = Endpoint(listening.getsockname()[1])
        server = uvicorn.Server(uvicorn.Config(Starlette(routes=endpoint.routes()), log_config=None))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        yield endpoint
        server.should_exit = True
        thread.join()


def make_prompts(*questions: str) -> list[Prompt]:
    return [Prompt(f"id of {text}", "test", [{"role": "user", "content": text}], None, None) for text in questions]


def generate(
    endpoint: Endpoint,
    prompts: list[Prompt],
    max_concurrency: int = LIMIT,
    tally: LocalTally | None = None,
    log: AnswerLog | None = None,
    patience_s: float = 60,
) -> list[str]:
    asking = Asking(endpoint.url, "delia", max_concurrency, patience_s)
    return answer_prompts(asking, prompts, lambda prompt: 40 + len(prompt.messages), tally or LocalTally(), log)


def test_questions_are_asked_together_but_never_more_than_allowed(endpoint: Endpoint) -> None:
    endpoint.together = LIMIT
    generate(endpoint, make_prompts(*map(str, range(5 * LIMIT))))
    assert endpoint.most_active == LIMIT


def test_one_at_a_time_is_one_at_a_time(endpoint: Endpoint) -> None:
    generate(endpoint, make_prompts(*map(str, range(5))), max_concurrency=1)
    assert endpoint.most_active == 1


def test_answers_come_in_the_order_of_the_prompts_however_late_one_is(endpoint: Endpoint) -> None:
    endpoint.others = 11
    texts = generate(endpoint, make_prompts("slow", *map(str, range(11))))
    assert [text.strip() for text in texts] == ["slow", *map(str, range(11))]


def test_the_answer_is_the_raw_text_and_what_is_asked_is_greedy(endpoint: Endpoint) -> None:
    prompt = Prompt("p", "test", [{"role": "system", "content": "s"}, {"role": "user", "content": "<sep> é"}], "yes", None)
    assert generate(endpoint, [prompt]) == [" <sep> é\n"]
    (body,) = endpoint.bodies
    assert (body["model"], body["messages"]) == ("delia", prompt.messages)
    assert (body["temperature"], body["max_tokens"], body["skip_special_tokens"]) == (0.0, 42, False)


def test_every_answer_and_its_tokens_are_counted(endpoint: Endpoint) -> None:
    tally = LocalTally()
    generate(endpoint, make_prompts(*map(str, range(7))), tally=tally)
    assert tally.read() == (7, 21)


def test_a_failure_that_passes_costs_no_answer(endpoint: Endpoint) -> None:
    endpoint.failures = 3
    tally = LocalTally()
    assert generate(endpoint, make_prompts("a"), tally=tally) == [" a\n"]
    assert len(endpoint.bodies) == 4
    assert tally.read() == (1, 3)


def test_an_endpoint_that_is_away_for_longer_than_the_client_retries_is_waited_for(
    endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "_PAUSE_SECONDS", 0.01)
    endpoint.failures = 23
    assert generate(endpoint, make_prompts("a")) == [" a\n"]
    assert len(endpoint.bodies) == 24


def test_an_endpoint_that_stays_away_ends_in_one_line_and_its_answers_are_not_asked_for_again(endpoint: Endpoint, tmp_path: Path) -> None:
    log = AnswerLog(tmp_path / "answers.jsonl")
    assert generate(endpoint, make_prompts("a", "b"), log=log) == [" a\n", " b\n"]
    with (tmp_path / "answers.jsonl").open("a") as stream:
        stream.write('\n{"prompt_id": "id of c", "te')  # the process was killed here
    endpoint.failures = 1000
    with pytest.raises(UserError, match=r"no answer to prompt id of c in 0 s .*busy.* the same command asks for the others"):
        generate(endpoint, make_prompts("a", "b", "c"), log=log, patience_s=0)
    endpoint.failures, asked = 0, len(endpoint.bodies)
    tally = LocalTally()
    assert generate(endpoint, make_prompts("c", "b", "a"), log=log, tally=tally) == [" c\n", " b\n", " a\n"]
    assert len(endpoint.bodies) == asked + 1
    assert tally.read() == (3, 9)


def test_a_refused_prompt_is_named_in_one_line(endpoint: Endpoint) -> None:
    with pytest.raises(UserError, match=r"prompt id of too long .*context length is 2048 tokens") as caught:
        generate(endpoint, make_prompts("a", "too long", "b"))
    assert "\n" not in str(caught.value)


def test_nothing_to_ask_asks_nothing(endpoint: Endpoint) -> None:
    assert generate(endpoint, []) == []


def test_the_key_comes_from_the_environment_and_none_is_needed(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    generate(endpoint, make_prompts("a"))
    monkeypatch.setenv("OPENAI_API_KEY", "mine")
    generate(endpoint, make_prompts("a"))
    assert endpoint.keys[1] == "Bearer mine" != endpoint.keys[0]


def test_the_expected_build_passes_and_another_is_refused(endpoint: Endpoint) -> None:
    check_served_model(endpoint.url, "delia", "0123456789ab")
    with pytest.raises(UserError, match="0123456789ab, but ffffffffffff is expected"):
        check_served_model(endpoint.url, "delia", "ffffffffffff")
    with pytest.raises(UserError, match="fingerprint None"):
        check_served_model(endpoint.url, "bare", "0123456789ab")


def test_a_model_that_is_not_served_is_refused_with_those_that_are(endpoint: Endpoint) -> None:
    with pytest.raises(UserError, match="no model 'sft', only bare, delia"):
        check_served_model(endpoint.url, "sft", "0123456789ab")


def test_an_address_that_is_no_such_endpoint_is_refused(endpoint: Endpoint) -> None:
    with pytest.raises(UserError, match="status 404"):
        check_served_model(endpoint.url + "/elsewhere", "delia", "0123456789ab")
