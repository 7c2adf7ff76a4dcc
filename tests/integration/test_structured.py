"""Answers with a form, from a real engine: neither vLLM's sampler nor the nucleus draw leaves the grammar.

A row that the engine fails on comes back with the reason.
"""

from pathlib import Path
from typing import Any

import pytest
import ray.data

from delia_ray.models import adopt_model, encode, load_tokenizer
from delia_ray.placement import ActorPool, Engine
from delia_ray.runtime import RayTally
from delia_ray.settings import Settings
from delia_ray.synthesis.config import VllmEngine
from delia_ray.synthesis.draws import new_draw
from delia_ray.synthesis.engine import generate
from delia_ray.synthesis.structure import has_form, structured_outputs

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
    "choice": {"kind": "choice", "options": ["dog", "cat", "a horse of another colour"]},
}
SAMPLINGS = {"nucleus": {"temperature": 2.0, "top_p": 0.95, "top_k": 0}, "theory": {"temperature": 1.0, "top_p": 1.0, "top_k": 0}}
DRAWS = 8


def test_every_answer_has_its_form_however_hot_it_is_drawn() -> None:
    given: dict[str, Any] = {
        name: Settings.model_validate({"run": {"name": "r"}, "synthesize": {"structured": form}}).synthesize.structured
        for name, form in FORMS.items()
    }
    model: Path = adopt_model("builtin:smollm2-135m-instruct").path
    prompts = ("<|im_start|>user\nName an animal.<|im_end|>\n<|im_start|>assistant\n", "<|im_start|>user\nHi")
    asked, cut = (encoding.ids for encoding in encode(load_tokenizer(model), prompts))
    draws = [
        new_draw("m", f"{name}-{how}-{number}", prompts[0], asked, sampling, topic="")
        for name, form in given.items()
        for how, sampled in SAMPLINGS.items()
        for number in range(DRAWS)
        for sampling in [{**sampled, "max_tokens": 160, "seed": number, "structured_outputs": structured_outputs(form)}]
    ]
    draws.append(new_draw("m", "bad-0", prompts[1], cut, {"temperature": 1.0, "top_k": 0, "seed": 0, "max_tokens": 0}, topic=""))
    table = ray.data.from_items(draws)
    rows = generate(table, VllmEngine(), model, Engine(dtype="float32"), ActorPool(), 512, RayTally()).take_all()
    failed, cut = [row["row_id"] for row in rows if row["error"]], [row for row in rows if not row["error"] and not row["finished"]]
    texts = {row["row_id"]: row["text"] for row in rows if row["finished"]}
    print(*sorted(texts.items()), *cut, sep="\n")
    assert failed == ["bad-0"]
    assert len(cut) <= 0.1 * len(draws)
    assert len(texts) + len(cut) + len(failed) == len(draws)
    assert {name: text for name, text in texts.items() if not has_form(given[name.partition("-")[0]], text)} == {}
    assert len(set(texts.values())) > len(texts) / 3
