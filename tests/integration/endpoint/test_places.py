"""Where the models of an endpoint are, and how many engines answer for them."""

import asyncio
import os
from pathlib import Path

import httpx
import pytest
from object_store import start_store
from pyarrow import fs
from served_runs import KEY, Served, serve, wait

pytestmark = [pytest.mark.endpoint]
REPLICA = "ray::ServeReplica"


def ask(served: Served, model: str) -> str:
    with served.client as client:
        answer = client.post("/v1/chat/completions", json=served.chat(model=model, max_tokens=16))
    assert answer.status_code == 200, answer.text
    return answer.json()["choices"][0]["message"]["content"]


def test_a_run_in_a_bucket_is_served_and_stays_as_it_is(run: Path, served: Served, tmp_path: Path):
    """From a machine that has nothing of it: the same answers, and not an object more."""
    with start_store() as store:
        store.create_bucket("runs")
        fs.copy_files(str(run), "runs/a/run", destination_filesystem=store.connect())
        before = store.list("runs/a")
        environment = {**os.environ, **store.environment}
        with serve(run, f"placement.cluster.mirror={tmp_path}", root="s3://runs/a", environment=environment) as remote:
            assert [ask(remote, model) for model in ("base", "one", "two")] == [ask(served, model) for model in ("base", "one", "two")]
        assert store.list("runs/a") == before


def test_replicas_grow_with_the_requests_in_progress(run: Path):
    """Up to ``max_size`` while more than ``max_num_seqs`` are in progress for each, and every answer is given."""
    settings = ["placement.serve.max_size=2", "placement.engine.max_num_seqs=4", "placement.engine.kv_cache_gib=0.25"]
    with serve(run, *settings) as served:
        assert len(served.find(REPLICA)) == 1

        async def ask_until_grown() -> float:
            body = served.chat(max_tokens=200, ignore_eos=True)
            headers = {"authorization": f"Bearer {KEY}"}
            async with httpx.AsyncClient(base_url=served.root, trust_env=False, timeout=300, headers=headers) as client:

                async def work() -> None:
                    while not grown.done():
                        answer = await client.post("/v1/chat/completions", json=body)
                        assert answer.status_code == 200, answer.text

                grown = asyncio.ensure_future(asyncio.to_thread(wait, lambda: len(served.find(REPLICA)) == 2, 120))
                await asyncio.gather(*(work() for _ in range(32)))
                return await grown

        print(f"a second replica was there after {asyncio.run(ask_until_grown()):.1f} s")
