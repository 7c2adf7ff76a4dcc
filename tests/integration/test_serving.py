import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import openai
import psutil
import pytest
from openai.types import Model
from openai.types.chat import ChatCompletionMessageParam
from ray import serve

from delia_ray.core.artifacts import Artifact
from delia_ray.core.errors import UserError
from delia_ray.placement import Engine, Replicas
from delia_ray.serving.endpoint import open_endpoint

QUESTION: list[ChatCompletionMessageParam] = [{"role": "user", "content": "What is the capital of France?"}]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def client(local_ray: None, tiny_models: dict[str, Artifact], engine: Engine) -> Iterator[openai.OpenAI]:
    with (
        open_endpoint(tiny_models, Replicas(port=free_port()), engine, max_model_len=256) as url,
        openai.OpenAI(base_url=url, api_key="none", max_retries=0) as client,
    ):
        yield client


def fingerprint_of(card: Model) -> str:
    metadata: Any = card.to_dict()["metadata"]
    return metadata["fingerprint"]


def chat(client: openai.OpenAI, model: str) -> str:
    answer = client.chat.completions.create(model=model, messages=QUESTION, temperature=0, max_tokens=16)
    return answer.choices[0].message.content or ""


def test_an_occupied_port_is_refused_before_anything_starts(local_ray: None, tiny_models: dict[str, Artifact], engine: Engine):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(UserError, match=rf"port: 127\.0\.0\.1:{port} cannot be used"):
            with open_endpoint(tiny_models, Replicas(port=port), engine, max_model_len=256):
                pass
    assert not serve.status().proxies


def test_replicas_that_no_node_could_hold_are_refused_before_anything_starts(
    local_ray: None, tiny_models: dict[str, Artifact], engine: Engine
):
    with pytest.raises(UserError, match=r"2 engines x size=1 x \(50 CPUs\) and 1 CPU that routes does not fit on the cluster .* lower it"):
        with open_endpoint(tiny_models, Replicas(port=free_port(), num_cpus=50), engine, max_model_len=256):
            pass
    assert not serve.status().proxies


def test_every_model_is_listed_with_the_fingerprint_of_its_artifact(client: openai.OpenAI, tiny_models: dict[str, Artifact]):
    listed = {card.id: fingerprint_of(card) for card in client.models.list()}
    assert listed == {name: model.fingerprint for name, model in tiny_models.items()}
    assert fingerprint_of(client.models.retrieve("two")) == tiny_models["two"].fingerprint


def test_each_name_answers_with_its_own_weights(client: openai.OpenAI):
    assert chat(client, "one") == chat(client, "one") != chat(client, "two")


def test_a_chat_is_the_completion_of_its_rendered_template(client: openai.OpenAI):
    prompt = (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n<|im_start|>assistant\n"
    )
    completion = client.completions.create(
        model="one", prompt=prompt, temperature=0, max_tokens=16, extra_body={"add_special_tokens": False}
    )
    assert completion.choices[0].text == chat(client, "one")


def test_a_stream_adds_up_to_the_whole_answer(client: openai.OpenAI):
    chunks = list(client.chat.completions.create(model="two", messages=QUESTION, temperature=0, max_tokens=16, stream=True))
    assert len(chunks) > 2
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == chat(client, "two")


def test_a_model_that_is_not_served_is_not_found(client: openai.OpenAI):
    with pytest.raises(openai.NotFoundError):
        chat(client, "three")


def test_nothing_listens_where_other_machines_reach(client: openai.OpenAI):
    """Neither the endpoint nor Ray, which takes pickled objects from whoever reaches it."""
    found: set[str] = set()
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):  # it has ended meanwhile
            found |= {each.laddr.ip for each in process.net_connections("inet") if each.status == psutil.CONN_LISTEN}
    assert found and found <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


def test_a_second_endpoint_on_the_same_cluster_is_refused(client: openai.OpenAI, tiny_models: dict[str, Artifact], engine: Engine):
    with pytest.raises(UserError, match="an endpoint runs on that cluster already"):
        with open_endpoint(tiny_models, Replicas(port=free_port()), engine, max_model_len=256):
            pass
    assert chat(client, "one") == chat(client, "one")


@pytest.mark.slow
def test_a_run_has_an_endpoint_of_its_own_beside_another_which_goes_on(
    client: openai.OpenAI, tiny_models: dict[str, Artifact], engine: Engine
):
    other = {"two": tiny_models["two"]}
    with open_endpoint(other, Replicas(port=free_port()), engine, max_model_len=256, name="delia-run") as url:
        assert url.endswith("/delia-run/v1") and url.partition("/delia-run")[0] == str(client.base_url).partition("/v1")[0]
        with openai.OpenAI(base_url=url, api_key="none") as beside:
            assert [card.id for card in beside.models.list()] == ["two"]
            assert chat(beside, "two") == chat(client, "two")
    assert {card.id for card in client.models.list()} == {"one", "two"}
