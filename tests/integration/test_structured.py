"""Answers with a form, from a real engine: neither vLLM's sampler nor ours leaves the grammar.

A row that the engine fails on comes back with the reason.
"""

from pathlib import Path
from typing import Any

import pytest
import ray.data

from delia_ray.models import adopt_model, encode, load_tokenizer
from delia_ray.placement import ActorPool, Engine
from delia_ray.ray_runtime.tally import RayTally
from delia_ray.settings import Settings
from delia_ray.synthesis.config import VllmEngine
from delia_ray.synthesis.engines.engine import generate
from delia_ray.synthesis.requests import new_request
from delia_ray.synthesis.structured_output import build_structured_outputs, has_form

pytestmark = pytest.mark.usefixtures("local_ray")
SCHEMA = {
    "type": "object",
    "properties": {"animal": {"type": "string", "maxLength": 12}, "legs": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["animal", "legs"],
    "additionalProperties": False,
}
FORMS = {
    "json": {"kind": "json_schema", "schema": SCHEMA},
    "regex": {"kind": "regex", "pattern": "[A-Z][a-z]{2,9}: [0-9]{2}"},
    "choice": {"kind": "choice", "options": ["dog", "cat", "a horse of another color"]},
}
SAMPLINGS = {"nucleus": {"temperature": 2.0, "top_p": 0.95, "top_k": 0}, "theory": {"temperature": 1.0, "top_p": 1.0, "top_k": 0}}
SAMPLES = 8


def test_every_answer_has_its_form_at_any_temperature() -> None:
    forms: dict[str, Any] = {
        name: Settings.model_validate({"run": {"name": "r"}, "synthesize": {"structured": form}}).synthesize.structured
        for name, form in FORMS.items()
    }
    model: Path = adopt_model("builtin:smollm2-135m-instruct").path
    prompts = ("<|im_start|>user\nName an animal.<|im_end|>\n<|im_start|>assistant\n", "<|im_start|>user\nHi")
    prompt_ids, cut = (encoding.ids for encoding in encode(load_tokenizer(model), prompts))
    requests = [
        new_request("m", f"{name}-{sampling_name}-{number}", prompts[0], prompt_ids, sampling, topic="")
        for name, form in forms.items()
        for sampling_name, sampled in SAMPLINGS.items()
        for number in range(SAMPLES)
        for sampling in [{**sampled, "max_tokens": 160, "seed": number, "structured_outputs": build_structured_outputs(form)}]
    ]
    requests.append(new_request("m", "bad-0", prompts[1], cut, {"temperature": 1.0, "top_k": 0, "seed": 0, "max_tokens": 0}, topic=""))
    table = ray.data.from_items(requests)
    rows = generate(table, VllmEngine(), model, Engine(dtype="float32", max_model_len=512), ActorPool(), RayTally()).take_all()
    failed, cut = [row["row_id"] for row in rows if row["error"]], [row for row in rows if not row["error"] and not row["finished"]]
    texts = {row["row_id"]: row["text"] for row in rows if row["finished"]}
    print(*sorted(texts.items()), *cut, sep="\n")
    assert failed == ["bad-0"]
    assert len(cut) <= 0.1 * len(requests)
    assert len(texts) + len(cut) + len(failed) == len(requests)
    assert {name: text for name, text in texts.items() if not has_form(forms[name.partition("-")[0]], text)} == {}
    assert len(set(texts.values())) > len(texts) / 3
