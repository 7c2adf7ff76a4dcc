import asyncio
import json
from collections.abc import Mapping, Sequence
from typing import Any
from unittest import mock

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from delia_ray.placement.access import Access
from delia_ray.serving.http import requests
from delia_ray.serving.http.checks import RequestChecks
from delia_ray.serving.http.errors import ErrorMiddleware
from delia_ray.serving.http.keys import ApiKeys

ANY = Access()
KEY, OTHER = "k" * 24, "o" * 24
CHAT = {"model": "delia", "messages": [{"role": "user", "content": "Hi"}]}


class App:
    """An application that answers as it is told, and remembers what it was asked."""

    def __init__(self, status: int = 200, parts: Sequence[bytes] = (b"{}",), error: Exception | None = None):
        self.bodies: list[bytes] = []
        self._status, self._parts, self._error = status, parts, error
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] == "POST":
            self.bodies.append((await receive())["body"])
        await self.go_on.wait()
        if self._error:
            raise self._error
        await send({"type": "http.response.start", "status": self._status, "headers": []})
        for number, part in enumerate(self._parts, 1):
            await send({"type": "http.response.body", "body": part, "more_body": number < len(self._parts)})


class Models:
    alive = True

    async def has_model(self, name: str) -> bool:
        return name == "delia"

    def is_alive(self) -> bool:
        return self.alive


class Answer:
    def __init__(self, messages: list[Message]):
        self.status: int = messages[0]["status"]
        self.headers = {name.decode(): value.decode() for name, value in messages[0]["headers"]}
        self.body = b"".join(each.get("body", b"") for each in messages[1:])

    @property
    def error(self) -> dict[str, Any]:
        return json.loads(self.body)["error"]


async def ask(
    app: ASGIApp,
    body: bytes | Mapping[str, Any] = CHAT,
    path: str = "/v1/chat/completions",
    method: str = "POST",
    headers: Sequence[tuple[str, str]] = (),
    query: bytes = b"",
    kind: str = "application/json",
    root: str = "",
) -> Answer:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    parts = [raw[:10], raw[10:]]
    sent: list[Message] = []

    async def receive() -> Message:
        if not parts:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

    async def send(message: Message) -> None:
        sent.append(message)

    named = [(name.lower().encode(), value.encode()) for name, value in (("content-type", kind), *headers)]
    scope = {"type": "http", "method": method, "path": root + path, "root_path": root, "query_string": query, "headers": named}
    await app(scope, receive, send)
    return Answer(sent)


def make_checks(app: ASGIApp, access: Access = ANY, keys: Sequence[str] = (), models: Models | None = None) -> ASGIApp:
    models = models or Models()
    return ErrorMiddleware(RequestChecks(app, access, ApiKeys(keys), models), models)


def bearer(key: str) -> list[tuple[str, str]]:
    return [("Authorization", f"Bearer {key}")]


def test_a_request_arrives_as_it_was_sent():
    app = App(parts=(b"{", b"}"))
    answer = asyncio.run(ask(make_checks(app), root="/delia-run"))
    assert (answer.status, answer.body, app.bodies) == (200, b"{}", [json.dumps(CHAT).encode()])


@pytest.mark.parametrize(
    ("headers", "query"),
    [
        ([], b""),
        ([], f"api_key={KEY}".encode()),
        ([], f"Authorization=Bearer%20{KEY}".encode()),
        (bearer("x" * 24), b""),
        (bearer(KEY[:-1]), b""),
        ([("Authorization", KEY)], b""),
        ([("Authorization", f"Basic {KEY}")], b""),
        ([("X-Api-Key", KEY)], b""),
        ([*bearer("x" * 24), *bearer(KEY)], b""),
        ([*bearer(KEY), *bearer("x" * 24)], b""),
    ],
)
def test_without_a_key_in_its_header_nothing_is_asked(headers: list[tuple[str, str]], query: bytes):
    app = App()
    answer = asyncio.run(ask(make_checks(app, keys=[KEY, OTHER]), headers=headers, query=query))
    assert (answer.status, answer.error["code"], answer.headers["www-authenticate"]) == (401, "invalid_api_key", "Bearer")
    assert app.bodies == [] and KEY not in answer.body.decode()


@pytest.mark.parametrize("key", [KEY, OTHER])
def test_each_key_lets_in(key: str):
    assert asyncio.run(ask(make_checks(App(), keys=[KEY, OTHER]), headers=bearer(key))).status == 200


@pytest.mark.parametrize(
    ("path", "status"),
    [("/", 200), ("/health", 200), ("/docs", 200), ("/static/x.js", 200), ("/v1/models", 401), ("/v1/models/x", 401), ("/metrics", 401)],
)
def test_only_pages_and_the_health_are_for_everyone(path: str, status: int):
    assert asyncio.run(ask(make_checks(App(), keys=[KEY]), path=path, method="GET")).status == status


@pytest.mark.parametrize(
    "path",
    ["/v1/load_lora_adapter", "/v1/unload_lora_adapter", "/sleep", "/invocations", "/collective_rpc", "/scale_elastic_ep", "//v1/models"],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_what_controls_the_engine_is_not_there(path: str, method: str):
    app = App()
    answer = asyncio.run(ask(make_checks(app), path=path, method=method))
    assert (answer.status, answer.error["code"], app.bodies) == (404, "not_found", [])


def test_another_method_is_refused_with_the_one_that_is_taken():
    answer = asyncio.run(ask(make_checks(App()), method="DELETE"))
    assert (answer.status, answer.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize(
    ("body", "kind", "status", "message"),
    [
        (b"Hi", "text/plain", 415, "found text/plain"),
        (b"{}", "", 415, "found none"),
        (b"", "application/json", 400, "the body is empty"),
        (b"{", "application/json", 400, "no JSON"),
        (b"[1]", "application/json", 400, "of type list"),
        (b'"a"', "application/json; charset=utf-8", 400, "of type str"),
        (b'{"temperature": NaN}', "application/json", 400, "NaN is no JSON"),
        (b'{"a": "\xff"}', "application/json", 400, "no JSON"),
        (b'{"a": "\\ud800"}', "application/json", 400, "surrogate"),
        (b"[" * 100_000, "application/json", 400, "no JSON"),
        (b'{"max_tokens": ' + b"9" * 5000 + b"}", "application/json", 400, "no JSON"),
        (b'{"model": 5}', "application/json", 400, "model: found int"),
        (b'{"model": "sft"}', "application/json", 404, "no 'sft' here"),
        (b'{"model": "../../etc/passwd"}', "application/json", 404, "passwd' here"),
        (b'{"model": "delia", "max_tokens": 65}', "application/json", 400, "max_tokens: found 65, and 64"),
        (b'{"model": "delia", "max_completion_tokens": 65}', "application/json", 400, "and 64 is the most"),
        (b'{"model": "delia", "max_tokens": "65"}', "application/json", 400, "max_tokens: found str"),
        (b'{"model": "delia", "max_tokens": 6e1}', "application/json", 400, "max_tokens: found float"),
        (b'{"model": "delia", "n": "2"}', "application/json", 400, "n: found str"),
        (b'{"model": "\xed\xa0\x80"}', "application/json", 400, "no JSON"),
        ('{"model": "a\\ud800"}'.encode("utf-16"), "application/json", 400, "no JSON"),
        (b'{"model": "delia", "n": 129}', "application/json", 400, "is 129, and 128"),
        (b'{"model": "delia", "n": 65, "prompt": ["a", "b"]}', "application/json", 400, "is 130, and 128"),
        (b'{"model": "delia", "a": "' + b"a" * 2000 + b'"}', "application/json", 413, "more than 0.001 MiB"),
    ],
)
def test_a_body_that_no_model_could_answer_is_refused(body: bytes, kind: str, status: int, message: str):
    app = App()
    most = 1.0 if len(body) > 2100 else 0.001
    answer = asyncio.run(ask(make_checks(app, Access(max_tokens=64, max_body_mib=most)), body, kind=kind))
    assert (answer.status, app.bodies) == (status, [])
    assert message in answer.error["message"] and answer.error["type"] == "invalid_request_error"


@pytest.mark.parametrize("body", [{"model": "delia", "prompt": [1, 2, 3] * 100}, {"prompt": "a"}, {"text": "\U0001f600"}])
def test_other_bodies_are_left_to_the_engine(body: Mapping[str, Any]):
    assert asyncio.run(ask(make_checks(App()), body)).status == 200


def test_a_body_that_does_not_arrive_is_cut_off():
    async def never() -> Message:
        await asyncio.sleep(60)
        raise AssertionError

    async def answer() -> int:
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": "/v1/completions", "headers": [(b"content-type", b"application/json")]}
        await make_checks(App(), Access(body_timeout_s=0.05))(scope, never, send)
        return sent[0]["status"]

    assert asyncio.run(answer()) == 408


@pytest.mark.parametrize(("access", "others"), [(Access(concurrent_requests=1), 200), (Access(max_requests=1), 429)])
def test_requests_beyond_the_limit_are_told_when_to_come_again(access: Access, others: int):
    async def both() -> list[Answer]:
        app = App()
        app.go_on.clear()
        checks = make_checks(app, access, [KEY, OTHER])
        first = asyncio.create_task(ask(checks, headers=bearer(KEY)))
        await asyncio.sleep(0)
        refused = await ask(checks, headers=bearer(KEY))
        with_other = asyncio.create_task(ask(checks, headers=bearer(OTHER)))
        await asyncio.sleep(0)
        app.go_on.set()
        return [await first, refused, await with_other, await ask(checks, headers=bearer(KEY))]

    first, refused, with_other, after = asyncio.run(both())
    assert [first.status, refused.status, with_other.status, after.status] == [200, 429, others, 200]
    assert refused.error["code"] == "rate_limit_exceeded" and int(refused.headers["retry-after"]) >= 1


def test_a_key_has_so_many_requests_a_minute():
    async def statuses() -> list[int]:
        checks = make_checks(App(), Access(requests_per_minute=2), [KEY, OTHER])
        return [(await ask(checks, headers=bearer(key))).status for key in (KEY, KEY, KEY, OTHER)]

    assert asyncio.run(statuses()) == [200, 200, 429, 200]


@pytest.mark.parametrize(
    "app",
    [App(status=500, parts=(b"/home/", b"user")), App(error=RuntimeError("/home/user"))],
    ids=["answer", "exception"],
)
@pytest.mark.parametrize(("alive", "status"), [(True, 500), (False, 503)])
def test_a_failure_tells_no_path(app: App, alive: bool, status: int):
    models = Models()
    models.alive = alive
    answer = asyncio.run(ask(make_checks(app, models=models)))
    assert (answer.status, answer.error["type"]) == (status, "server_error")
    assert b"/home" not in answer.body and ("retry-after" in answer.headers) == (not alive)


def test_what_another_replica_has_said_is_passed_on():
    inner, dead = App(status=500), Models()
    dead.alive = False
    answer = asyncio.run(ask(make_checks(ErrorMiddleware(inner, dead))))
    assert (answer.status, answer.error["code"]) == (503, "engine_down")


class Broken:
    """An application that fails after a part of its answer."""

    def __init__(self, kind: str):
        self._kind = kind

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", self._kind.encode())]})
        await send({"type": "http.response.body", "body": b"data: {}\n\n", "more_body": True})
        raise RuntimeError("/home/user")


def test_a_stream_that_breaks_off_says_so():
    answer = asyncio.run(ask(make_checks(Broken("text/event-stream; charset=utf-8"))))
    events = [json.loads(line.removeprefix("data: ")) for line in answer.body.decode().split("\n\n") if line]
    assert events[0] == {} and events[1]["error"]["type"] == "server_error" and b"/home" not in answer.body


def test_another_answer_that_breaks_off_is_not_ended_as_if_it_were_whole():
    with pytest.raises(ConnectionError):
        asyncio.run(ask(make_checks(Broken("application/json"))))


SELF = {"$ref": "#/$defs/a"}


@pytest.mark.parametrize(
    ("schema", "status"),
    [
        ({"$ref": "#"}, 400),
        ({"$defs": {"a": SELF}, **SELF}, 400),
        ({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": SELF}, **SELF}, 400),
        ({"$defs": {"a": {"anyOf": [SELF]}}, **SELF}, 400),
        ({"allOf": [{"type": "string"}, {"$ref": "#"}]}, 400),
        ({"$defs": {"a": {"anyOf": [SELF, {"type": "null"}]}}, **SELF}, 200),
        ({"$defs": {"a": {"type": "object", "properties": {"next": SELF}}}, **SELF}, 200),
        ({"$defs": {f"a{i}": {"anyOf": [{"$ref": f"#/$defs/a{i + 1}"}] * 2} for i in range(60)}, "$ref": "#/$defs/a0"}, 200),
        ({"$ref": "#/nowhere/at/all"}, 200),
        ({"$ref": "https://example.org/schema"}, 200),
        ({"$ref": 5, "anyOf": 5}, 200),
        ({"$ref": "#name"}, 200),
        ({"allOf": [{"$ref": "#/$defs/a"}] * 2, "$defs": {"a": {"type": "string"}}}, 200),
        (5, 200),
    ],
)
def test_a_schema_that_nothing_fulfils_is_refused(schema: object, status: int):
    body = {**CHAT, "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}}
    assert asyncio.run(ask(make_checks(App()), body)).status == status
    assert asyncio.run(ask(make_checks(App()), {**CHAT, "structured_outputs": {"json": schema}})).status == status


def test_each_part_of_a_schema_is_read_once(monkeypatch: pytest.MonkeyPatch):
    """Though many references name it: a small body must not take minutes and gigabytes."""
    count, read = 300, mock.Mock(side_effect=requests._list_required)  # pyright: ignore[reportPrivateUsage]
    monkeypatch.setattr(requests, "_list_required", read)
    parts = {f"a{i}": {"allOf": [{"$ref": f"#/$defs/a{j}"} for j in range(i + 1, count)]} for i in range(count)}
    schema = {"$defs": parts, "allOf": [{"$ref": "#/$defs/a0"}, *({"$ref": f"#{i}"} for i in range(20000))]}
    requests.check_schemas({"structured_outputs": {"json": schema}})
    assert read.call_count == 1 + 1 + 20000 + count + count * (count - 1) // 2


def test_the_log_says_what_the_answer_withholds(caplog: pytest.LogCaptureFixture):
    asyncio.run(ask(make_checks(App(status=501, parts=(b"no such ", b"kernel " * 1000)))))
    (record,) = caplog.records
    assert "501" in record.getMessage() and "no such kernel" in record.getMessage() and len(record.getMessage()) < 5000
