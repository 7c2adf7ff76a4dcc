"""Answers from a server with the OpenAI API: a small one that is overloaded at first and refuses one prompt."""

import json
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from delia_ray.cli.terminal import StageLine
from delia_ray.core.artifacts import Provenance
from delia_ray.core.errors import UserError
from delia_ray.models import adopt_model
from delia_ray.placement import ActorPool, Engine
from delia_ray.synthesis.answers_stage import generate_answers
from delia_ray.synthesis.config import OpenAIEngine, Sampling, SynthesizeConfig
from delia_ray.synthesis.context import GenerationContext
from delia_ray.synthesis.queries_stage import generate_queries
from delia_ray.synthesis.query_config import FileQueries
from delia_ray.synthesis.structured_output import RegexForm

pytestmark = pytest.mark.usefixtures("local_ray")
QUERIES = [f"What is the number {n} called in Danish?" for n in range(12)]


class Server(ThreadingHTTPServer):
    """Says 503 to the first request for each prompt and 400 to prompts that hold the word it refuses."""

    refused = "number 7"

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.lock = threading.Lock()
        self.flying = self.most_flying = 0


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server = self.server
        assert isinstance(server, Server)
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with server.lock:
            server.flying += 1
            server.most_flying = max(server.most_flying, server.flying)
            server.requests[body["prompt"]] += 1
            server.bodies.append(body)
            first = server.requests[body["prompt"]] == 1
        if server.refused in body["prompt"]:
            self._reply(400, {"error": {"message": "prompt is too long", "type": "bad", "code": 400}})
        elif first:
            self._reply(503, {"error": {"message": "overloaded", "type": "busy", "code": 503}})
        else:
            choice = {"index": 0, "text": f" It is called {body['seed']}.", "finish_reason": "stop", "logprobs": None}
            usage = {"prompt_tokens": 9, "completion_tokens": 5, "total_tokens": 14}
            self._reply(200, {"id": "1", "object": "text_completion", "created": 1, "model": "m", "choices": [choice], "usage": usage})
        with server.lock:
            server.flying -= 1

    def _reply(self, status: int, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def context(cache: Path) -> GenerationContext:
    model, pool = adopt_model("builtin:smollm2-135m-instruct"), ActorPool(batch_rows=4)
    return GenerationContext(model, Engine(), pool, cache, lambda _=None: None, StageLine("test"), Provenance(None, ["pytest"]))


def config(folder: Path, server: Server, budget: float) -> SynthesizeConfig:
    (folder / "q.jsonl").write_text("\n".join(json.dumps({"query": query}) for query in QUERIES))
    return SynthesizeConfig(
        engine=OpenAIEngine(kind="openai", url=f"http://127.0.0.1:{server.server_port}/v1", model="m"),
        queries=FileQueries(kind="file", path=folder / "q.jsonl"),
        answers=Sampling(top_p=0.9, top_k=7, max_tokens=20),
        structured=RegexForm(kind="regex", pattern="[^#]+"),
        error_budget=budget,
    )


def test_an_overloaded_server_is_called_again_and_a_refused_prompt_is_rejected(tmp_path: Path, server: Server) -> None:
    settings = config(tmp_path, server, budget=0.2)
    answers = generate_answers(
        settings,
        generate_queries(settings, context(tmp_path / "cache"), tmp_path / "queries"),
        context(tmp_path / "cache"),
        tmp_path / "answers",
    )
    assert answers.manifest.counts["rows"] == 11 and answers.manifest.counts["answer_tokens"] == 55
    rejects = pq.read_table(answers.data / "rejects").to_pylist()
    assert len(rejects) == 1 and "prompt is too long" in rejects[0]["reason"]
    assert server.most_flying <= 4
    assert {(body["temperature"], body["top_p"], body["top_k"], body["max_tokens"]) for body in server.bodies} == {(0.7, 0.9, 7, 20)}
    assert all(body["structured_outputs"] == {"regex": "[^#]+"} for body in server.bodies)
    assert len({body["seed"] for body in server.bodies}) == len(QUERIES)


def test_beyond_the_budget_the_stage_stops_and_completions_are_cached(tmp_path: Path, server: Server) -> None:
    settings = config(tmp_path, server, budget=0.01)
    queries = generate_queries(settings, context(tmp_path / "cache"), tmp_path / "queries")
    with pytest.raises(UserError, match=r"failed on 1 of 12 rows.*prompt is too long"):
        generate_answers(settings, queries, context(tmp_path / "cache"), tmp_path / "answers")
    assert not (tmp_path / "answers").exists()
    before = server.requests.total()
    server.refused = "no such text"
    answers = generate_answers(settings, queries, context(tmp_path / "cache"), tmp_path / "answers")
    assert (answers.manifest.counts["generated"], answers.manifest.counts["cached"]) == (1, 11)
    assert server.requests.total() == before + 1
