"""Clients that people have, as they are, and one that makes up requests."""

import json
import re
import subprocess
from pathlib import Path

import openai
import pytest
from served_runs import KEY, Served

pytestmark = [pytest.mark.endpoint, pytest.mark.timeout(1800)]
CLIENTS = Path(__file__).parents[3] / ".venv-clients/bin"
CASES = 2000


def call(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout


def test_made_up_requests_are_never_the_servers_fault(served: Served, tmp_path: Path):
    """2,000 requests over the OpenAPI document: each path gets its part."""
    with served.client as client:
        document = client.get("/openapi.json").json()
    (tmp_path / "openapi.json").write_text(json.dumps(document))
    most = -(-CASES // len(document["paths"]))
    command = [CLIENTS / "st", "run", tmp_path / "openapi.json", "--url", served.root, "--header", f"Authorization: Bearer {KEY}"]
    options = ["--checks", "not_a_server_error", "--phases", "fuzzing", "--max-examples", str(most), "--mode", "all"]
    done = subprocess.run(
        [*command, *options, "--seed", "1", "--continue-on-failure", "--suppress-health-check", "all", "--request-timeout", "60"],
        capture_output=True,
        text=True,
        check=False,
    )
    counted = re.search(r"(\d+) generated", done.stdout)
    print(counted and counted[0])
    assert done.returncode == 0, done.stdout[-6000:]
    with served.client as client:
        assert client.post("/v1/chat/completions", json=served.chat()).status_code == 200


def test_curl_openai_and_litellm_get_the_same(served: Served):
    body = served.chat(model="two", max_tokens=8)
    header = ["-H", f"Authorization: Bearer {KEY}", "-H", "Content-Type: application/json"]
    curl = json.loads(call("curl", "-sf", f"{served.url}/chat/completions", *header, "-d", json.dumps(body)))
    with openai.OpenAI(base_url=served.url, api_key=KEY) as client:
        own = client.chat.completions.create(**body)  # pyright: ignore
        streamed = client.chat.completions.create(**body, stream=True)  # pyright: ignore
        whole = "".join(chunk.choices[0].delta.content or "" for chunk in streamed)  # pyright: ignore
    arguments = {**body, "model": "openai/two", "api_base": served.url, "api_key": KEY}
    script = (
        f"import json, litellm; print(litellm.completion(**json.loads({json.dumps(json.dumps(arguments))})).choices[0].message.content)"
    )
    said = curl["choices"][0]["message"]["content"]
    assert own.choices[0].message.content == whole == said  # pyright: ignore
    assert call(CLIENTS / "python", "-c", script).rstrip("\n") == said.rstrip("\n")
