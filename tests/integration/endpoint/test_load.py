"""Many connections, clients that leave or say nothing, and hours in minutes: nothing leaks."""

import asyncio
import json
import os
import socket
import time
from contextlib import suppress
from pathlib import Path

import httpx
import psutil
import pytest
from served_runs import KEY, Served, serve

pytestmark = [pytest.mark.endpoint, pytest.mark.timeout(3600)]
SOAK_MINUTES = float(os.environ.get("SOAK_MINUTES", "10"))
CONNECTIONS = 1000
GROWTH = 1.1


def measure_rss(served: Served) -> float:
    """MiB of all its processes."""
    tree = [psutil.Process(served.process.pid), *psutil.Process(served.process.pid).children(recursive=True)]
    total = 0
    for each in tree:
        with suppress(psutil.Error):
            total += each.memory_full_info().pss
    return total / 2**20


def test_a_thousand_connections_at_once_are_answered(served: Served):
    async def ask() -> list[int]:
        limits = httpx.Limits(max_connections=CONNECTIONS)
        async with httpx.AsyncClient(base_url=served.root, trust_env=False, timeout=300, limits=limits) as client:
            headers = {"authorization": f"Bearer {KEY}"}
            body = served.chat(max_tokens=2)
            answers = await asyncio.gather(*(client.post("/v1/chat/completions", json=body, headers=headers) for _ in range(CONNECTIONS)))
            return [answer.status_code for answer in answers]

    statuses = asyncio.run(ask())
    assert set(statuses) <= {200, 429} and statuses.count(200) >= CONNECTIONS // 2
    print({status: statuses.count(status) for status in set(statuses)})


@pytest.mark.parametrize("form", ["adapter", "merged"])
def test_clients_that_leave_are_forgotten(run: Path, form: str):
    """The engine writes one answer at a time, so that each client waits for those before it."""
    clients, long = 16, {"max_tokens": 400, "ignore_eos": True}

    async def leave(served: Served) -> None:
        async with httpx.AsyncClient(base_url=served.root, trust_env=False, timeout=600) as client:
            body = served.chat(**long, stream=True)
            async with client.stream("POST", "/v1/chat/completions", json=body, headers={"authorization": f"Bearer {KEY}"}) as answer:
                async for _ in answer.aiter_bytes():
                    return

    async def leave_together(served: Served) -> None:
        await asyncio.gather(*(leave(served) for _ in range(clients)))

    with serve(run, f"placement.serve.form={form}", "placement.engine.max_num_seqs=1") as served, served.client as client:

        def ask(**more: object) -> float:
            began = time.monotonic()
            assert client.post("/v1/chat/completions", json=served.chat(**more)).status_code == 200
            return time.monotonic() - began

        ask()
        whole, began = ask(**long), time.monotonic()
        asyncio.run(leave_together(served))
        ask()
        taken = time.monotonic() - began
    print(f"{form}: a whole answer takes {whole:.1f} s, {clients} clients that leave {taken:.1f} s")
    assert taken < clients / 2 * whole, "the engine still writes for those who have gone"


def test_requests_beyond_the_limit_are_refused_at_once(run: Path):
    async def ask(served: Served) -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=served.root, trust_env=False, timeout=120) as client:
            body, headers = served.chat(max_tokens=100, ignore_eos=True), {"authorization": f"Bearer {KEY}"}
            return await asyncio.gather(*(client.post("/v1/chat/completions", json=body, headers=headers) for _ in range(6)))

    with serve(run, "placement.serve.access.max_requests=2") as served:
        answers = asyncio.run(ask(served))
    refused = [answer for answer in answers if answer.status_code == 429]
    assert sorted(answer.status_code for answer in answers) == [200] * 2 + [429] * 4
    assert all(int(answer.headers["retry-after"]) > 0 for answer in refused)


def test_a_body_that_does_not_come_is_cut(served: Served):
    host, port = served.root.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=90) as connection:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {KEY}\r\ncontent-type: application/json\r\n"
        connection.sendall(f"{head}content-length: 1000\r\n\r\n{{".encode())
        assert b" 408 " in connection.recv(4096).splitlines()[0]


def test_memory_stays_as_it_is(served: Served):
    """Requests of all kinds for ten minutes, as many at once as the engine takes."""
    bodies = [
        ("/v1/chat/completions", served.chat(max_tokens=16)),
        ("/v1/chat/completions", served.chat(model="two", max_tokens=16, stream=True)),
        ("/v1/completions", {"model": "base", "prompt": "Once", "max_tokens": 16, "logprobs": 2}),
        ("/v1/chat/completions", served.chat(model="nobody")),
        ("/v1/chat/completions", {"model": "one", "messages": 5}),
        ("/tokenize", {"model": "one", "prompt": "Once upon a time"}),
    ]

    async def work(client: httpx.AsyncClient, number: int, end: float) -> int:
        count = 0
        while time.monotonic() < end:
            path, body = bodies[(number + count) % len(bodies)]
            text = f"{number} {count} "  # or the prefix cache would answer
            unique = json.loads(json.dumps(body).replace("Hi", text).replace("Once", text))
            answer = await client.post(path, json=unique)
            assert answer.status_code < 500, answer.text
            count += 1
        return count

    async def work_together(minutes: float) -> int:
        async with httpx.AsyncClient(
            base_url=served.root, trust_env=False, timeout=120, headers={"authorization": f"Bearer {KEY}"}
        ) as client:
            end = time.monotonic() + 60 * minutes
            return sum(await asyncio.gather(*(work(client, number, end) for number in range(8))))

    asyncio.run(work_together(SOAK_MINUTES / 5))
    before = measure_rss(served)
    count = asyncio.run(work_together(SOAK_MINUTES))
    after = measure_rss(served)
    print(f"{count} requests in {SOAK_MINUTES:g} min: {before:.0f} MiB before, {after:.0f} after")
    assert after <= GROWTH * before
