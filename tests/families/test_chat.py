"""For every family, a conversation has one BOS, and its trained tokens are the answer and its end of turn."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from family_table import TOKEN, Family

from delia_ray.core.records import Example, Message
from delia_ray.evaluation.kl_divergence import _encode_conversation  # pyright: ignore[reportPrivateUsage]
from delia_ray.models import ModelFolder, add_system_turn, detect_chat_format, encode_prompt, get_tokenizer, load_tokenizer, token_ids
from delia_ray.models.chat import find_user_turn_stops, render_user_turn_prefix
from delia_ray.synthesis import answers_stage
from delia_ray.synthesis.config import SynthesizeConfig
from delia_ray.synthesis.controller.policy import PlannedQuery
from delia_ray.synthesis.prompts import load_topics
from delia_ray.synthesis.query_config import MagpieQueries
from delia_ray.synthesis.requests import REQUEST_SCHEMA
from delia_ray.synthesis.sources import magpie
from delia_ray.training.data.tokens import KINDS, tokenize

QUESTION: Message = {"role": "user", "content": f"What is the capital of Japan?\n\nFollow {TOKEN} here."}
ANSWERS = [
    "Tokyo.",
    '{"thought": "Tokyo is the capital of Japan.", "hallucination": "no"}',
    "\nA line break first.",
    "  Two spaces",
    "First.\n\nSecond.",
]


def example(answer: str, *before: Message) -> Example:
    return {"example_id": "x", "group": "task", "label": None, "messages": [*before, QUESTION, {"role": "assistant", "content": answer}]}


def has_one_bos(ids: list[int], tokenizer: Any, family: Family) -> bool:
    """Whether the text starts with one BOS token if the family's template writes it, else with none."""
    expected = 1 if family.template.startswith("{{ bos_token }}") else 0
    return ids[:3].count(tokenizer.bos_token_id) == expected and (not expected or ids[0] == tokenizer.bos_token_id)


@pytest.mark.parametrize("answer", ANSWERS)
def test_the_trained_tokens_are_the_answer_and_its_end_of_turn(family: Family, extended: dict[str, Path], answer: str):
    tokenizer = load_tokenizer(extended[family.name])
    [row] = tokenize(tokenizer, [example(answer)], "answer", token_ids(tokenizer, [TOKEN]))
    trained_ids = [token for token, kind in zip(row.ids, row.kinds, strict=True) if kind]
    text = tokenizer.decode(trained_ids, skip_special_tokens=False)
    assert text.replace(family.ends_with, "").strip() == answer.strip() and text.rstrip().endswith(family.ends_with)
    assert trained_ids.count(tokenizer.convert_tokens_to_ids(family.ends_with)) == 1
    assert [KINDS[kind] for kind in row.kinds][-1] == "end"
    served = encode_prompt(tokenizer, [QUESTION])
    assert list(row.ids[: len(served)]) == served and not any(row.kinds[: len(served)])


def test_the_format_tokens_of_an_answer_are_found_in_every_template(family: Family, extended: dict[str, Path]):
    tokenizer = load_tokenizer(extended[family.name])
    [row] = tokenize(tokenizer, [example('{"a": "b"}')], "answer")
    form = "".join(tokenizer.decode([token]) for token, kind in zip(row.ids, row.kinds, strict=True) if KINDS[kind] == "format")
    text = "".join(tokenizer.decode([token]) for token, kind in zip(row.ids, row.kinds, strict=True) if KINDS[kind] == "text")
    assert "{" in form and "}" in form and "b" not in form.replace("b", "", form.count('"b"'))
    assert set(text.strip()) <= {"b", '"'}


def test_every_prompt_has_one_bos(family: Family, zoo: dict[str, Path], extended: dict[str, Path]):
    config, model = SynthesizeConfig(), ModelFolder(zoo[family.name], "m")
    tokenizer, tuned = get_tokenizer(model), load_tokenizer(extended[family.name])
    query = PlannedQuery(number=0, topic=load_topics()[0]["topic"], temperature=1.0, wording=0)
    queries = magpie._build_requests(config, MagpieQueries(rows=1), model, [query])  # pyright: ignore[reportPrivateUsage]
    rows = pa.Table.from_pylist([{"query_id": "q", "topic": "", "query": "Name a fruit.", "reference": None}])
    answers = answers_stage._build_requests(config, model, rows)  # pyright: ignore[reportPrivateUsage]
    for requests in (queries, answers):
        assert requests.schema == REQUEST_SCHEMA
        assert has_one_bos(requests["prompt_ids"].to_pylist()[0], tokenizer, family)
    [trained] = tokenize(tuned, [example("Tokyo.")], "answer")
    scored = _encode_conversation(tuned, [QUESTION], "Tokyo.")
    # As transformers and vLLM's server render a request to the exported folder.
    served = tuned.apply_chat_template([QUESTION], add_generation_prompt=True, return_dict=False)
    for ids in (list(trained.ids), scored.ids, served):
        assert has_one_bos(ids, tuned, family)
    assert list(trained.ids[: len(served)]) == served == encode_prompt(tuned, [QUESTION]) == scored.ids[: len(served)]


def test_a_system_text_is_rendered_with_or_without_a_system_role(family: Family, zoo: dict[str, Path]):
    tokenizer = get_tokenizer(ModelFolder(zoo[family.name], "m"))
    prefix = render_user_turn_prefix(tokenizer, "Speak of rivers.")
    assert "Speak of rivers." in prefix and family.ends_with not in prefix.partition("Speak of rivers.")[2].replace(family.ends_with, "", 1)
    rendered = tokenizer.decode(encode_prompt(tokenizer, add_system_turn(tokenizer, "Speak of rivers.", [QUESTION])))
    assert "Speak of rivers." in rendered and "capital of Japan" in rendered
    stops = find_user_turn_stops(tokenizer)
    assert stops["stop_token_ids"] and all(0 <= token < len(tokenizer) for token in stops["stop_token_ids"])


def test_only_tokens_that_open_or_close_a_turn_are_control_tokens(family: Family, zoo: dict[str, Path]):
    control = detect_chat_format(get_tokenizer(ModelFolder(zoo[family.name], "m"))).control_tokens
    assert family.ends_with in control
    assert not any(token in "First.\n\nSecond.\n\n\n    indented <b>text</b>" for token in control)


def test_the_end_of_turn_is_among_the_exported_eos_token_ids(family: Family, extended: dict[str, Path]):
    tokenizer = load_tokenizer(extended[family.name])
    stops = json.loads((extended[family.name] / "generation_config.json").read_text())["eos_token_id"]
    assert tokenizer.convert_tokens_to_ids(family.ends_with) in stops and tokenizer.eos_token_id in stops
