"""Requests that clients should not send, and the statuses that they are answered with."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

CHAT, COMPLETION, RESPONSE, TOKENIZE = "/v1/chat/completions", "/v1/completions", "/v1/responses", "/tokenize"
BAD, MISSING, LARGE, KIND, NOT_ALLOWED = 400, 404, 413, 415, 405


@dataclass(frozen=True)
class Hostile:
    name: str
    status: int
    """What it is answered with."""
    body: bytes
    path: str = CHAT
    method: str = "POST"
    kind: str = "application/json"


def _chat(**more: Any) -> bytes:
    return json.dumps({"model": "one", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2, **more}).encode()


def _complete(**more: Any) -> bytes:
    return json.dumps({"model": "one", "prompt": "Hi", "max_tokens": 2, **more}).encode()


def _say(content: Any, role: Any = "user") -> bytes:
    return _chat(messages=[{"role": role, "content": content}])


_RECURSIVE = {"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}]}}, "$ref": "#/$defs/a"}
_DEEP = b"[" * 100_000
_IMAGE = [{"type": "image_url", "image_url": {"url": "http://127.0.0.1:1/a.png"}}]


def _format(schema: Any) -> bytes:
    return _chat(response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": schema}})


REQUESTS: Sequence[Hostile] = (
    Hostile("text", KIND, b"hello", kind="text/plain"),
    Hostile("no kind", KIND, _chat(), kind=""),
    Hostile("form", KIND, b"model=one", kind="application/x-www-form-urlencoded"),
    Hostile("nothing", BAD, b""),
    Hostile("half of an object", BAD, b'{"model": "one"'),
    Hostile("no UTF-8", BAD, b'{"model": "\xff\xfe"}'),
    Hostile("a list", BAD, b"[]"),
    Hostile("null", BAD, b"null"),
    Hostile("NaN", BAD, b'{"model": "one", "messages": [], "temperature": NaN}'),
    Hostile("a number of many digits", BAD, b'{"model": "one", "max_tokens": ' + b"9" * 10_000 + b"}"),
    Hostile("deep lists", BAD, b'{"model": "one", "messages": ' + _DEEP + b"}"),
    Hostile("more than 8 MiB", LARGE, b'{"model": "' + b"a" * (9 << 20) + b'"}'),
    Hostile("half of a surrogate pair", BAD, b'{"model": "one", "messages": [{"role": "user", "content": "\\ud800"}]}'),
    Hostile("half of one in the prompt", BAD, b'{"model": "one", "prompt": "\\udfff"}', COMPLETION),
    Hostile("half of one in the name", BAD, b'{"model": "\\ud800", "messages": []}'),
    Hostile("messages of a number", BAD, _chat(messages=5)),
    Hostile("no messages", BAD, _chat(messages=[])),
    Hostile("messages of null", BAD, _chat(messages=None)),
    Hostile("a message of a number", BAD, _chat(messages=[5])),
    Hostile("a message without role", BAD, _chat(messages=[{"content": "Hi"}])),
    Hostile("a role of a number", BAD, _say("Hi", 5)),
    Hostile("content of a number", BAD, _say(5)),
    Hostile("content of an unknown type", BAD, _say([{"type": "smell", "smell": "a"}])),
    Hostile("an image", BAD, _say(_IMAGE)),
    Hostile("a model of a number", BAD, _chat(model=5)),
    Hostile("a model of a list", BAD, _chat(model=["one"])),
    Hostile("another model", MISSING, _chat(model="gpt-4")),
    Hostile("a model with a suffix", MISSING, _chat(model="one:two")),
    Hostile("a path as a model", MISSING, _chat(model="../../etc/passwd")),
    Hostile("a URL as a model", MISSING, _chat(model="s3://bucket/model")),
    Hostile("a long name", MISSING, _chat(model="a" * 100_000)),
    Hostile("a name with a zero", MISSING, _chat(model="one\0")),
    Hostile("temperature of a text", BAD, _chat(temperature="hot")),
    Hostile("a negative temperature", BAD, _chat(temperature=-1)),
    Hostile("an infinite temperature", BAD, b'{"model": "one", "messages": [{"role": "user", "content": "Hi"}], "temperature": 1e999}'),
    Hostile("top_p of 2", BAD, _chat(top_p=2)),
    Hostile("top_k of -5", BAD, _chat(top_k=-5)),
    Hostile("n of 0", BAD, _chat(n=0)),
    Hostile("n of 100000", BAD, _chat(n=100_000)),
    Hostile("negative max_tokens", BAD, _chat(max_tokens=-1)),
    Hostile("max_tokens of the whole context", BAD, _chat(max_tokens=10**9)),
    Hostile("max_tokens beyond int64", BAD, _chat(max_tokens=10**30)),
    Hostile("a seed beyond int64", BAD, _chat(seed=10**30)),
    Hostile("logprobs beyond what is kept", BAD, _chat(logprobs=True, top_logprobs=10_000)),
    Hostile("a bias of no token", BAD, _chat(logit_bias={"a": 1})),
    Hostile("a bias of a token that is not there", BAD, _chat(logit_bias={"99999999": 1})),
    Hostile("stop of numbers", BAD, _chat(stop=[1, 2])),
    Hostile("a long prompt", BAD, _say("word " * 20_000)),
    Hostile("token ids that are not there", BAD, _complete(prompt=[10**9]), COMPLETION),
    Hostile("negative token ids", BAD, _complete(prompt=[-1]), COMPLETION),
    Hostile("no prompt", BAD, _complete(prompt=[]), COMPLETION),
    Hostile("prompts of all kinds", BAD, _complete(prompt=["a", 5, None]), COMPLETION),
    Hostile("200 prompts", BAD, _complete(prompt=["a"] * 200), COMPLETION),
    Hostile("a recursive schema", BAD, _format(_RECURSIVE)),
    Hostile("many tokens as text", BAD, _chat(max_tokens="100000")),
    Hostile("many answers as text", BAD, _chat(n="10000")),
    Hostile("bytes of no character", BAD, b'{"model": "\xed\xa0\x80"}'),
    Hostile("a schema of a number", BAD, _format(5)),
    Hostile("a schema of an unknown type", BAD, _format({"type": "smell"})),
    Hostile("a bad grammar", BAD, _chat(structured_outputs={"grammar": "root ::= ("})),
    Hostile("a bad pattern", BAD, _chat(structured_outputs={"regex": "(("})),
    Hostile("a tool without name", BAD, _chat(tools=[{"type": "function"}])),
    Hostile(
        "a tool that must be called and no parser", BAD, _chat(tools=[{"type": "function", "function": {"name": "f"}}], tool_choice="auto")
    ),
    Hostile("a template of its own", BAD, _chat(chat_template="{{ ''.__class__ }}")),
    Hostile("bad input of a response", BAD, json.dumps({"model": "one", "input": 5}).encode(), RESPONSE),
    Hostile("a call of a computer", BAD, json.dumps({"model": "one", "input": [{"type": "computer_call_output"}]}).encode(), RESPONSE),
    Hostile("a message of nobody", BAD, json.dumps({"model": "one", "input": [{"content": "Hi"}]}).encode(), RESPONSE),
    Hostile("a number to tokenize", BAD, json.dumps({"model": "one", "prompt": 5}).encode(), TOKENIZE),
    Hostile("GET where POST is", NOT_ALLOWED, b"", method="GET"),
    Hostile("DELETE of a model", NOT_ALLOWED, b"", "/v1/models/one", "DELETE"),
    Hostile("loading an adapter", MISSING, json.dumps({"lora_name": "a", "lora_path": "/etc"}).encode(), "/v1/load_lora_adapter"),
    Hostile("ending the engine", MISSING, b"{}", "/shutdown"),
    Hostile("putting the engine to sleep", MISSING, b"{}", "/sleep"),
    Hostile("a path upwards", MISSING, b"", "/static/../../etc/passwd", "GET"),
    Hostile("an encoded path upwards", MISSING, b"", "/static/%2e%2e/%2e%2e/etc/passwd", "GET"),
)
