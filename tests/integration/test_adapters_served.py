"""Several adapters on one engine: each name answers with its own weights, alone and in one batch."""

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import openai
import pytest
from adapted_models import answer, build_adapted
from hostile_requests import REQUESTS
from openai.types.chat import ChatCompletionMessageParam
from training_runs import TOKEN

from delia_ray.core.artifacts import Artifact
from delia_ray.core.layout import RunLayout
from delia_ray.placement import Access, Engine, Replicas
from delia_ray.serving.endpoint import open_endpoint
from delia_ray.serving.engine import LOOK_SECONDS
from delia_ray.serving.http.keys import ApiKeys
from delia_ray.serving.options import EndpointOptions

QUESTIONS = ("Name a fruit.", f"{TOKEN} Name a river.", "What is the capital of France?")
TOKENS = 12
KEY = "k" * 32


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunLayout:
    return RunLayout(tmp_path_factory.mktemp("runs") / "adapted")


@pytest.fixture(scope="module")
def models(base: Artifact, run: RunLayout, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Artifact]:
    scratch = tmp_path_factory.mktemp("trained")
    arms = {name: build_adapted(base, seed, run.of_arm(name, "model"), scratch / name) for seed, name in enumerate(("one", "two"))}
    return {"base": base, **arms}


@pytest.fixture(scope="module")
def url(local_ray: None, models: dict[str, Artifact], run: RunLayout, engine: Engine) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = EndpointOptions(Access(), ApiKeys([KEY]), run.root)
    with open_endpoint(models, Replicas(port=port, form="adapter"), engine, 256, base=models["base"], options=options) as url:
        yield url


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=url, api_key=KEY, max_retries=0) as client:
        yield client


def ask(client: openai.OpenAI, model: str, question: str) -> str:
    messages: list[ChatCompletionMessageParam] = [{"role": "user", "content": question}]
    return client.chat.completions.create(model=model, messages=messages, temperature=0, max_tokens=TOKENS).choices[0].message.content or ""


def test_each_name_answers_as_its_merged_model_does_in_transformers(client: openai.OpenAI, models: dict[str, Artifact]):
    answers = {name: [ask(client, name, question) for question in QUESTIONS] for name in models}
    assert answers == {name: [answer(model, question, TOKENS) for question in QUESTIONS] for name, model in models.items()}
    assert len({tuple(each) for each in answers.values()}) == 3


def test_in_one_batch_no_request_is_answered_by_anothers_adapter(client: openai.OpenAI, models: dict[str, Artifact]):
    alone = {(name, question): ask(client, name, question) for name in models for question in QUESTIONS}
    asked = [*alone] * 4
    with ThreadPoolExecutor(len(asked)) as pool:
        together = list(pool.map(lambda each: ask(client, *each), asked))
    assert together == [alone[each] for each in asked]


def test_every_model_is_listed_with_what_it_is(client: openai.OpenAI, models: dict[str, Artifact]):
    cards = {card.id: card.to_dict() for card in client.models.list()}
    assert {name: card["metadata"]["fingerprint"] for name, card in cards.items()} == {name: m.fingerprint for name, m in models.items()}  # pyright: ignore
    assert cards["two"]["metadata"]["form"] == "adapter" and cards["two"]["metadata"]["base"] == models["base"].fingerprint  # pyright: ignore
    assert cards["two"]["created"] and cards["base"]["metadata"]["form"] == "base"  # pyright: ignore


def test_an_arm_that_is_finished_later_answers_without_a_new_start(
    client: openai.OpenAI, models: dict[str, Artifact], run: RunLayout, tmp_path: Path
):
    with pytest.raises(openai.NotFoundError):
        ask(client, "three", QUESTIONS[0])
    later = build_adapted(models["base"], 2, run.of_arm("three", "model"), tmp_path / "three")
    time.sleep(LOOK_SECONDS)
    assert [ask(client, "three", question) for question in QUESTIONS] == [answer(later, question, TOKENS) for question in QUESTIONS]
    assert "three" in {card.id for card in client.models.list()}


@pytest.mark.parametrize("name", ["four", "../base", "one/../two", "one:two", "", "/etc", "a" * 5000])
def test_a_name_that_is_not_there_is_not_found(client: openai.OpenAI, name: str):
    with pytest.raises(openai.NotFoundError) as caught:
        ask(client, name, QUESTIONS[0])
    assert caught.value.code == "model_not_found" and len(str(caught.value)) < 500


def test_without_the_key_there_is_only_the_page(url: str):
    root = url.removesuffix("/v1")
    with httpx.Client(trust_env=False) as http:
        assert http.get(f"{root}/").text.startswith("<!doctype html>") and http.get(f"{root}/health").status_code == 200
        assert [http.get(f"{root}{path}").status_code for path in ("/v1/models", "/metrics")] == [401, 401]
        assert http.post(f"{url}/chat/completions", json={"model": "one"}).status_code == 401


def test_vllms_own_paths_answer_for_adapters_too(url: str):
    root = url.removesuffix("/v1")
    with httpx.Client(trust_env=False, headers={"authorization": f"Bearer {KEY}"}, timeout=60) as http:
        assert http.post(f"{root}/tokenize", json={"model": "one", "prompt": TOKEN, "add_special_tokens": False}).json()["count"] == 1
        assert 'handler="/tokenize"' in http.get(f"{root}/metrics").text  # those of the engine are on Ray's endpoint
        assert http.post(f"{url}/responses", json={"model": "two", "input": "Hi", "max_output_tokens": 4}).status_code == 200
        assert http.get(f"{root}/docs").status_code == 200


def test_what_clients_should_not_send_is_said_to_be_theirs(url: str):
    root, wrong = url.removesuffix("/v1"), dict[str, tuple[int, str]]()
    with httpx.Client(trust_env=False, timeout=60, headers={"authorization": f"Bearer {KEY}"}) as http:
        for request in REQUESTS:
            kind = {"content-type": request.kind} if request.kind else {}
            answer = http.request(request.method, f"{root}{request.path}", content=request.body, headers=kind)
            is_right = answer.status_code == request.status and "/home" not in answer.text and "site-packages" not in answer.text
            if not is_right or not answer.json().get("error", {}).get("message"):
                wrong[request.name] = (answer.status_code, answer.text[:300])
        assert wrong == {}
        assert (
            http.post(f"{url}/chat/completions", json={"model": "one", "messages": [{"role": "user", "content": "Hi"}]}).status_code == 200
        )
