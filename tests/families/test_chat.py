"""Whatever the family, a conversation has one beginning, and what is learnt of it is the answer and its end of turn."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from family_table import TOKEN, Family

from delia_ray.evaluation.divergence import _row  # pyright: ignore[reportPrivateUsage]
from delia_ray.models import ModelFolder, chat_format, load_tokenizer, prompt_ids, token_ids, tokenizer_of, with_system
from delia_ray.models.chat import user_turn_prefix, user_turn_stops
from delia_ray.records import Example, Message
from delia_ray.synthesis import answering, magpie
from delia_ray.synthesis.config import SynthesizeConfig
from delia_ray.synthesis.controller import Ask
from delia_ray.synthesis.draws import DRAW_SCHEMA
from delia_ray.synthesis.query_config import MagpieQueries
from delia_ray.training.tokens import KINDS, tokenise

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


def started(ids: list[int], tokenizer: Any, family: Family) -> bool:
    """Whether the text begins as the family's template begins it, once."""
    expected = 1 if family.template.startswith("{{ bos_token }}") else 0
    return ids[:3].count(tokenizer.bos_token_id) == expected and (not expected or ids[0] == tokenizer.bos_token_id)


@pytest.mark.parametrize("answer", ANSWERS)
def test_what_is_learnt_is_the_answer_and_its_end_of_turn(family: Family, starts: dict[str, Path], answer: str):
    tokenizer = load_tokenizer(starts[family.name])
    [row] = tokenise(tokenizer, [example(answer)], "answer", token_ids(tokenizer, [TOKEN]))
    learnt = [token for token, kind in zip(row.ids, row.kinds, strict=True) if kind]
    text = tokenizer.decode(learnt, skip_special_tokens=False)
    assert text.replace(family.ends_with, "").strip() == answer.strip() and text.rstrip().endswith(family.ends_with)
    assert learnt.count(tokenizer.convert_tokens_to_ids(family.ends_with)) == 1
    assert [KINDS[kind] for kind in row.kinds][-1] == "end"
    served = prompt_ids(tokenizer, [QUESTION])
    assert list(row.ids[: len(served)]) == served and not any(row.kinds[: len(served)])


def test_the_form_of_an_answer_is_found_wherever_the_template_puts_it(family: Family, starts: dict[str, Path]):
    tokenizer = load_tokenizer(starts[family.name])
    [row] = tokenise(tokenizer, [example('{"a": "b"}')], "answer")
    form = "".join(tokenizer.decode([token]) for token, kind in zip(row.ids, row.kinds, strict=True) if KINDS[kind] == "format")
    text = "".join(tokenizer.decode([token]) for token, kind in zip(row.ids, row.kinds, strict=True) if KINDS[kind] == "text")
    assert "{" in form and "}" in form and "b" not in form.replace("b", "", form.count('"b"'))
    assert set(text.strip()) <= {"b", '"'}


def test_every_prompt_begins_once(family: Family, zoo: dict[str, Path], starts: dict[str, Path]):
    config, model = SynthesizeConfig(), ModelFolder(zoo[family.name], "m")
    tokenizer, tuned = tokenizer_of(model), load_tokenizer(starts[family.name])
    ask = Ask(number=0, topic=magpie.topics()[0]["topic"], temperature=1.0, wording=0)
    queries = magpie._draws(config, MagpieQueries(rows=1), model, [ask])  # pyright: ignore[reportPrivateUsage]
    rows = pa.Table.from_pylist([{"query_id": "q", "topic": "", "query": "Name a fruit.", "reference": None}])
    answers = answering._draws(config, model, rows)  # pyright: ignore[reportPrivateUsage]
    for draws in (queries, answers):
        assert draws.schema == DRAW_SCHEMA
        assert started(draws["prompt_ids"].to_pylist()[0], tokenizer, family)
    [trained] = tokenise(tuned, [example("Tokyo.")], "answer")
    scored = _row(tuned, [QUESTION], "Tokyo.")
    # As transformers and vLLM's server render it for whoever asks the exported folder.
    served = tuned.apply_chat_template([QUESTION], add_generation_prompt=True, return_dict=False)
    for ids in (list(trained.ids), scored.ids, served):
        assert started(ids, tuned, family)
    assert list(trained.ids[: len(served)]) == served == prompt_ids(tuned, [QUESTION]) == scored.ids[: len(served)]


def test_a_steering_turn_reaches_the_model_with_or_without_a_system_role(family: Family, zoo: dict[str, Path]):
    tokenizer = tokenizer_of(ModelFolder(zoo[family.name], "m"))
    prefix = user_turn_prefix(tokenizer, "Speak of rivers.")
    assert "Speak of rivers." in prefix and family.ends_with not in prefix.partition("Speak of rivers.")[2].replace(family.ends_with, "", 1)
    rendered = tokenizer.decode(prompt_ids(tokenizer, with_system(tokenizer, "Speak of rivers.", [QUESTION])))
    assert "Speak of rivers." in rendered and "capital of Japan" in rendered
    stops = user_turn_stops(tokenizer)
    assert stops["stop_token_ids"] and all(0 <= token < len(tokenizer) for token in stops["stop_token_ids"])


def test_only_what_opens_or_closes_a_turn_is_kept_out_of_texts(family: Family, zoo: dict[str, Path]):
    control = chat_format(tokenizer_of(ModelFolder(zoo[family.name], "m"))).control_tokens
    assert family.ends_with in control
    assert not any(token in "First.\n\nSecond.\n\n\n    indented <b>text</b>" for token in control)


def test_the_model_s_template_writes_what_ends_a_turn_into_the_exported_stops(family: Family, starts: dict[str, Path]):
    tokenizer = load_tokenizer(starts[family.name])
    stops = json.loads((starts[family.name] / "generation_config.json").read_text())["eos_token_id"]
    assert tokenizer.convert_tokens_to_ids(family.ends_with) in stops and tokenizer.eos_token_id in stops
