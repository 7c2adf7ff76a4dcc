"""Clients that people have, as they are, and one that makes up requests."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from served_runs import KEY, Served, serve

pytestmark = [pytest.mark.endpoint, pytest.mark.timeout(1800)]
CLIENTS = Path(__file__).parents[3] / ".venv-clients/bin"
CASES = 2000
_MORE = 1.3
"""It makes up fewer than it may."""


def call(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    return done.stdout


@pytest.fixture
def brief(run: Path) -> Iterator[Served]:
    """An endpoint whose answers are short."""
    with serve(run, "placement.serve.access.max_tokens=8", "placement.serve.access.max_choices=4") as served:
        yield served


def test_made_up_requests_are_never_the_servers_fault(brief: Served, tmp_path: Path):
    """2,000 requests over the OpenAPI document: each operation that takes a body gets its part."""
    with brief.client as client:
        document = client.get("/openapi.json").json()
    (tmp_path / "openapi.json").write_text(json.dumps(document))
    operations = sum("requestBody" in operation for path in document["paths"].values() for operation in path.values())
    most = round(_MORE * CASES / operations)
    command = [
        CLIENTS / "st",
        "run",
        tmp_path / "openapi.json",
        "--url",
        brief.root,
        "--workers",
        "2",
        "--header",
        f"Authorization: Bearer {KEY}",
    ]
    options = ["--checks", "not_a_server_error", "--phases", "fuzzing", "--max-examples", str(most), "--mode", "all"]
    done = subprocess.run(
        [*command, *options, "--seed", "1", "--continue-on-failure", "--suppress-health-check", "all", "--request-timeout", "60"],
        capture_output=True,
        text=True,
        check=False,
    )
    counted = re.search(r"(\d+) generated", done.stdout)
    assert done.returncode == 0, done.stdout[-6000:]
    assert counted and int(counted[1]) >= CASES, done.stdout[-6000:]
    print(counted[0])
    with brief.client as client:
        assert client.post("/v1/chat/completions", json=brief.chat()).status_code == 200


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


TASKS = {
    "choices": """
task: choices
dataset_path: json
dataset_kwargs: {{data_files: {{test: {rows}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "Question: {{{{question}}}} Answer:"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: 0
metric_list: [{{metric: acc, aggregation: mean, higher_is_better: true}}]
""",
    "words": """
task: words
dataset_path: json
dataset_kwargs: {{data_files: {{test: {rows}}}}}
test_split: test
output_type: generate_until
doc_to_text: "{{{{question}}}}"
doc_to_target: "{{{{choices[0]}}}}"
generation_kwargs: {{until: ["\\n\\n"], max_gen_toks: 8, do_sample: false}}
metric_list: [{{metric: exact_match, aggregation: mean, higher_is_better: true}}]
""",
}
ROWS = [
    {"question": f"What is the capital of {country}?", "choices": [" Paris", " Rome", " Oslo"]} for country in ("France", "Italy", "Norway")
]


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tasks")
    rows = folder / "rows.jsonl"
    rows.write_text("\n".join(map(json.dumps, ROWS)) + "\n")
    for name, text in TASKS.items():
        (folder / f"{name}.yaml").write_text(text.format(rows=rows))
    return folder


def evaluate(tasks: Path, task: str, kind: str, arguments: str, out: Path, *words: str) -> list[object]:
    """What lm-eval got for each item: log-likelihoods of the choices, or the text."""
    command = [sys.executable, "-m", "lm_eval", "--model", kind, "--model_args", arguments, "--tasks", task, "--include_path", tasks]
    environment = {**os.environ, "OPENAI_API_KEY": KEY, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [*command, "--output_path", out, "--log_samples", *words], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (samples,) = out.rglob("samples_*.jsonl")
    found = sorted((json.loads(line) for line in samples.read_text().splitlines()), key=lambda sample: sample["doc_id"])
    return [[reply for each in sample["resps"] for reply in each] for sample in found]


def test_lm_eval_measures_an_adapter_as_the_merged_model(served: Served, run: Path, tasks: Path, tmp_path: Path):
    """The endpoint's adapter, and the merged weights in transformers: log-likelihoods, and texts of chats."""
    folder = run / "arms/two/model/data"
    merged = f"pretrained={folder},dtype=float32,add_bos_token=False"
    remote = f"model=two,tokenizer={folder},num_concurrent=2,base_url={served.url}"
    expected = evaluate(tasks, "choices", "hf", merged, tmp_path / "a", "--device", "cpu")
    found = evaluate(tasks, "choices", "local-completions", f"{remote}/completions,add_bos_token=False", tmp_path / "b")
    for ours, theirs in zip(found, expected, strict=True):
        assert [float(value) for value, _ in ours] == pytest.approx([float(value) for value, _ in theirs], abs=0.02)  # pyright: ignore
    chat = "--apply_chat_template"
    expected = evaluate(tasks, "words", "hf", merged, tmp_path / "c", "--device", "cpu", chat)
    found = evaluate(tasks, "words", "local-chat-completions", f"{remote}/chat/completions", tmp_path / "d", chat)
    assert found == expected
