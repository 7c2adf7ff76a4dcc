"""Templates and tokens that need a decision: taken where one can be made, refused by name where not."""

import json
import pickle
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import AddedToken, normalizers
from transformers import GenerationConfig, MambaConfig, T5Config
from zoo import CHATML, FAMILIES, GEMMA, LLAMA2, QWEN3, make_tokenizer

from delia_ray.errors import UserError
from delia_ray.models import (
    ModelFolder,
    chat_format,
    check_new_tokens,
    check_token_init,
    encode,
    extend,
    hides_reasoning,
    load_model,
    load_tokenizer,
    prompt_ids,
    prompt_text,
    render,
    run_precision,
    save_whole,
    without_reasoning,
)
from delia_ray.models.families import check_architecture, table_rows
from delia_ray.models.template import append_to_prompts, render_template, set_arguments, settle_template
from delia_ray.preflight import _check_rendered  # pyright: ignore[reportPrivateUsage]
from delia_ray.records import Message
from delia_ray.synthesis.answering import _judged  # pyright: ignore[reportPrivateUsage]
from delia_ray.synthesis.filters import refuse_answer
from delia_ray.synthesis.prompts import control_tokens
from delia_ray.tasks.config import CopyInit, DescriptionInit, MeanInit, TokenInit
from delia_ray.tasks.messages import check_no_control_tokens
from delia_ray.training.parity import greedy_answers
from delia_ray.training.tokens import KINDS, tokenise

TURN: list[Message] = [{"role": "user", "content": "Say hello."}]
NAMED = {family.name: family for family in FAMILIES}
HELLO: Any = {"example_id": "x", "group": "task", "label": None, "messages": [*TURN, {"role": "assistant", "content": "Hello"}]}


def tokenizer(family: str, template: str) -> Any:
    made = make_tokenizer(NAMED[family])
    made.chat_template = template
    return made


def learnt(made: Any, row: Any = HELLO) -> list[tuple[str, str]]:
    [found] = tokenise(made, [row], "answer")
    return [(made.decode([token]), KINDS[kind]) for token, kind in zip(found.ids, found.kinds, strict=True) if kind]


def test_a_block_of_reasoning_that_only_answers_have_becomes_part_of_the_prompt():
    made = tokenizer("qwen3", QWEN3.replace("enable_thinking is defined and enable_thinking is false", "false"))
    assert chat_format(made).thinking == "empty block"
    assert prompt_text(made, TURN).endswith("assistant\n<think>\n\n</think>\n\n")
    assert "".join(text for text, _ in learnt(made)) == "Hello<|im_end|>" and learnt(made)[-1] == ("<|im_end|>", "end")


def test_the_switch_of_reasoning_is_off_unless_it_was_set():
    made = tokenizer("qwen3", QWEN3)
    assert chat_format(made).thinking == "off" and prompt_text(made, TURN).endswith("</think>\n\n")
    # Saved with a model, the template is no other.
    made.chat_template = chat_format(made).template
    again = chat_format(made)
    assert (again.thinking, again.template) == ("off", made.chat_template)


def test_arguments_of_the_template_are_written_into_it():
    made = tokenizer("llama3", NAMED["llama3"].template)
    assert "Today Date: 26 Jul 2024" in prompt_text(made, TURN)
    set_arguments(made, {"date_string": "1 Jan 2030", "unused": None})
    assert "Today Date: 1 Jan 2030" in prompt_text(made, TURN)


ASSISTANT = "'<|im_start|>assistant\n' }}{% if enable"
SHOUTED = "(m['content'] if m['role'] == 'user' else m['content'] | upper)"


@pytest.mark.parametrize(
    ("family", "template", "named"),
    [
        ("qwen3", QWEN3.replace(ASSISTANT, ASSISTANT.replace("assistant\n", "assistant\n<think>\n")), "opens a block of reasoning"),
        ("llama", LLAMA2.replace("{{ bos_token }}", "{{ bos_token + bos_token }}"), "writes '<s>' twice"),
        ("llama", LLAMA2.replace(" + eos_token", ""), "writes no special token after an answer"),
        ("llama", None, "has no chat template"),
        ("llama_tied", CHATML.replace("m['content']", SHOUTED), "opens answers in different ways"),
    ],
    ids=["reasoning first", "two beginnings", "no end", "none", "changed answers"],
)
def test_a_template_that_cannot_be_trained_on_is_refused_by_name(family: str, template: Any, named: str):
    with pytest.raises(UserError, match=rf"m-7b.*{named}"):
        chat_format(tokenizer(family, template), "m-7b")


@pytest.mark.parametrize("roles", [["system", "user", "assistant"], ["user", "user", "assistant"]])
def test_turns_that_a_template_refuses_are_named_with_its_own_words(roles: list[str]):
    made = tokenizer("gemma", GEMMA)
    messages = [{"role": role, "content": "Be brief."} for role in roles]
    with pytest.raises(
        UserError, match=r"task row 'Be brief\.': .* refuses the turns .*: (System role not supported|Conversation roles must)"
    ):
        learnt(made, {**HELLO, "messages": messages})


def test_a_prompt_that_ends_in_a_space_leaves_the_first_word_to_be_learnt():
    spaced = (
        "{% for m in messages %}{{ m['role'] + ': ' + m['content'] + '<|im_end|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    )
    assert "".join(text for text, _ in learnt(tokenizer("qwen2", spaced))) == "Hello<|im_end|>"


def test_reasoning_is_taken_off_an_answer_and_nothing_else():
    assert without_reasoning("<think>\nHm.\n</think>\n\nParis.") == "Paris."
    assert without_reasoning("<think>\nParis, or is it") == ""
    assert without_reasoning("I think <think> is a tag.") == "I think <think> is a tag."


def test_a_reserved_token_is_as_good_as_a_new_one_and_a_word_is_not():
    made = tokenizer("gemma", GEMMA)
    check_new_tokens(made, ["<sep>", "<unused0>"], MeanInit())
    for token in ("<end_of_turn>", "<eos>", "a"):
        with pytest.raises(UserError, match=rf"task\.token: '{token}' is already in the vocabulary.*<unused0>"):
            check_new_tokens(made, [token], MeanInit())


def test_nothing_that_shapes_a_draw_stays_in_an_exported_model(zoo: dict[str, Path], tmp_path: Path):
    model, made = load_model(zoo["llama3"], torch.float32), load_tokenizer(zoo["llama3"])
    model.generation_config = GenerationConfig(
        do_sample=True, temperature=0.6, top_p=0.9, top_k=20, min_p=0.1, typical_p=0.9, repetition_penalty=1.3, no_repeat_ngram_size=3,
        eos_token_id=[1, 4],
    )  # fmt: skip
    save_whole(model, made, tmp_path)
    stored = json.loads((tmp_path / "generation_config.json").read_text())
    assert set(stored) <= {"bos_token_id", "eos_token_id", "pad_token_id", "do_sample", "transformers_version"}
    assert stored["eos_token_id"] == [1, 4]


def test_prompts_are_padded_though_the_tokenizer_has_no_token_for_it(zoo: dict[str, Path]):
    made, model = load_tokenizer(zoo["mistral"]), load_model(zoo["mistral"], torch.float32).eval()
    assert made.pad_token is None
    model.generation_config.eos_token_id = [made.eos_token_id]
    together = greedy_answers(model, made, [[1, 20, 21, 22, 23], [1, 30]], 6)
    assert together == [greedy_answers(model, made, [ids], 6)[0] for ids in ([1, 20, 21, 22, 23], [1, 30])]


def test_an_architecture_that_new_tokens_cannot_be_given_is_refused_by_name(tmp_path: Path, zoo: dict[str, Path]):
    T5Config().save_pretrained(tmp_path / "t5")
    MambaConfig(num_hidden_layers=1, hidden_size=32).save_pretrained(tmp_path / "mamba")
    with pytest.raises(UserError, match=r"t5 is no causal language model that transformers can build .*T5Config"):
        check_architecture(tmp_path / "t5")
    for folder in (tmp_path / "mamba", *zoo.values()):
        check_architecture(folder)


def test_a_run_decides_on_its_precision_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    record = tmp_path / "run" / "precision.json"
    assert run_precision(record, "float16", on_gpus=False) == "float16" and not record.exists()
    monkeypatch.setattr("delia_ray.models.precision.resolve_dtype", lambda _: torch.float32)
    assert run_precision(record, "auto", on_gpus=False) == "float32"
    monkeypatch.setattr("delia_ray.models.precision.resolve_dtype", lambda _: torch.bfloat16)
    assert run_precision(record, "auto", on_gpus=False) == run_precision(record, "auto", on_gpus=True) == "float32"
    assert run_precision(tmp_path / "other" / "precision.json", "auto", on_gpus=True) == "bfloat16"


def test_padding_and_truncation_that_a_tokenizer_was_saved_with_change_no_row(tmp_path: Path):
    made = make_tokenizer(NAMED["qwen2"])
    made.backend_tokenizer.enable_truncation(8)
    made.backend_tokenizer.enable_padding(length=64)
    made.save_pretrained(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert prompt_ids(loaded, TURN) == loaded.apply_chat_template(TURN, add_generation_prompt=True, return_dict=False)
    assert "".join(text for text, _ in learnt(loaded)) == "Hello<|im_end|>"


def test_an_answer_that_swallows_the_end_of_its_turn_is_refused_by_its_row():
    made = make_tokenizer(NAMED["qwen2"])
    made.add_tokens([AddedToken("><|im_end|>", special=False, normalized=False)])
    row = {**HELLO, "messages": [*TURN, {"role": "assistant", "content": "a <b>"}]}
    with pytest.raises(UserError, match=r"task row 'Say hello\.': its answer swallows the token that ends the turn"):
        learnt(made, row)


def test_no_special_token_may_stand_in_a_text():
    for name, token in (("phi3", "<|system|>"), ("gemma", "<unused0>"), ("gpt_neox", "<|padding|>")):
        assert token in chat_format(make_tokenizer(NAMED[name])).control_tokens


def test_a_prompt_that_leaves_its_reasoning_open_is_refused():
    opened = CHATML.replace("m['content'] + '<|im_end|>", "('<think>\n' if m['role'] == 'assistant' else '') + m['content'] + '<|im_end|>")
    opened = opened.replace("assistant\n' }}{% endif %}", "assistant\n<think>\n' }}{% endif %}")
    with pytest.raises(UserError, match="m-7b opens a block of reasoning in its prompt"):
        chat_format(tokenizer("qwen3", opened), "m-7b")


def test_a_system_turn_that_is_shown_for_the_last_question_only_is_none():
    template = (
        "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}{{ '[INST]' }}"
        "{% if loop.last and messages[0]['role'] == 'system' %}{{ messages[0]['content'] + '\n\n' }}{% endif %}"
        "{{ m['content'] + '[/INST]' }}"
        "{% elif m['role'] == 'assistant' %}{{ m['content'] + eos_token }}{% endif %}{% endfor %}"
    )
    assert not chat_format(tokenizer("llama", template)).takes_system


def test_a_token_of_the_templates_own_text_is_refused(zoo: dict[str, Path], tmp_path: Path):
    for name, token in (("llama", "[INST]"), ("gpt_neox", "### User:")):
        with pytest.raises(UserError, match=r"task\.token: .* is part of what the model's chat template writes itself"):
            extend(zoo[name], [token], MeanInit(), 1, tmp_path / name)


def test_a_template_whose_code_fails_is_named_with_its_failure():
    with pytest.raises(UserError, match="refuses the turns user"):
        chat_format(tokenizer("llama", "{% for tool in tools %}{{ tool }}{% endfor %}" + LLAMA2), "m-7b")


GEMMA4 = NAMED["gemma4_turns"].template


def test_a_prompt_that_ends_otherwise_than_the_answered_turn_is_what_answers_are_learnt_after():
    made = tokenizer("gemma4_turns", GEMMA4)
    prompt = prompt_text(made, TURN)
    assert prompt.endswith("<|turn>model\n<|channel>thought\n<channel|>") and chat_format(made).thinking == "empty block"
    assert render(made, HELLO["messages"], prompt=False) == f"{prompt}Hello<turn|>\n"
    assert [text for text, _ in learnt(made)][-1] == "<turn|>" and "".join(text for text, _ in learnt(made)) == "Hello<turn|>"
    # Earlier turns are the template's.
    longer: list[Message] = [*HELLO["messages"], *TURN]
    assert prompt_text(made, longer) == made.apply_chat_template(longer, tokenize=False, add_generation_prompt=True)


@pytest.mark.parametrize(("family", "arguments"), [("qwen3", {"enable_thinking": True}), ("gemma4_turns", {"enable_thinking": 1})])
def test_reasoning_that_is_asked_for_is_refused_by_its_key(family: str, arguments: dict[str, Any]):
    made = tokenizer(family, NAMED[family].template)
    with pytest.raises(UserError, match=r"^chat_template_kwargs\.enable_thinking: found (True|1), .*; set it to false or leave it out$"):
        set_arguments(made, arguments)
    set_arguments(made, {"enable_thinking": False})
    assert chat_format(made).thinking != "none"
    set_arguments(plain := tokenizer("qwen2", CHATML), {"enable_thinking": True})  # a template that does not know the switch
    assert chat_format(plain).thinking == "none"


@pytest.mark.parametrize(
    "begins", ["   {% if true %}{% endif %}", "\n{% if true %}{% endif %}", "  \n  {% if true %}{% endif %}", " ", "{#- a -#}\n"]
)
@pytest.mark.parametrize("ends", ["", "\n", "\r\n", "\n\n", "\n   ", "{% if true %}{% endif %}\n", "{# a #}\n  "])
def test_what_is_settled_in_a_template_leaves_the_rest_of_it_byte_for_byte(begins: str, ends: str):
    given, told = tokenizer("qwen3", begins + QWEN3 + ends), tokenizer("qwen3", begins + QWEN3 + ends)
    set_arguments(told, {"date_string": "1 Jan 2030", "custom": 3})
    alone = given.apply_chat_template(TURN, tokenize=False, add_generation_prompt=True, enable_thinking=False)
    assert alone == prompt_text(given, TURN) == prompt_text(told, TURN)
    settled, _ = settle_template(given)
    for asks in (True, False):
        plain, headed = (render_template(given, each, TURN, prompt=asks) for each in (settled, append_to_prompts(settled, "<h>")))
        assert headed == (f"{plain}<h>" if asks else plain)


def test_the_blocks_of_reasoning_of_other_models_are_taken_off_too():
    assert without_reasoning("<|channel>thought\nHm.\n<channel|>Paris.") == "Paris."
    assert without_reasoning("[THINK]Hm.[/THINK]\nParis.") == "Paris."
    assert without_reasoning("[THINK]Paris, or is it") == ""
    assert without_reasoning("Write [THINK] first.") == "Write [THINK] first."
    assert hides_reasoning(tokenizer("gemma4_turns", GEMMA4)) and not hides_reasoning(tokenizer("qwen3", QWEN3))


SPLIT = QWEN3.replace("content.lstrip('\n')", "content.split('</think>')[-1].lstrip('\n')")


def test_an_answer_that_the_template_would_change_is_set_aside_before_it_is_learnt(zoo: dict[str, Path], tmp_path: Path):
    made = tokenizer("qwen2", SPLIT)
    made.add_tokens([AddedToken("><|im_end|>", special=False, normalized=False)])
    made.save_pretrained(tmp_path)
    judge: Any = partial(_judged, None, control_tokens(made), ModelFolder(tmp_path, "m"))
    drawn: Any = {"key": 1, "row_id": "x", "finished": True, "prompt_tokens": 1, "answer_tokens": 1, "topic": "", "query": "?", "error": ""}
    answers = ["The sky is blue.", "Close it with </think> and go on.", "It ends in a tag <b>", "<think>Hm.</think>The sky is blue."]
    reasons = [judge({**drawn, "text": answer})["reason"] for answer in answers]
    assert reasons == ["", "changed by the chat template", "changed by the chat template", ""]
    for answer, reason in zip(answers[:3], reasons, strict=False):  # and what is kept can be learnt
        row = {**HELLO, "messages": [*TURN, {"role": "assistant", "content": answer}]}
        if reason:
            with pytest.raises(UserError, match="task row"):
                learnt(made, row)
        else:
            learnt(made, row)


def test_a_task_row_that_the_template_would_change_is_refused_by_its_number():
    rows: Any = [HELLO, {**HELLO, "messages": [*TURN, {"role": "assistant", "content": "So </think> it is."}]}]
    with pytest.raises(UserError, match=r"^task\.train row 2: .* does not put its answer after its prompt as it is; change the row"):
        _check_rendered(tokenizer("qwen2", SPLIT), {"train": rows})


def test_no_text_becomes_a_control_token_by_being_normalised():
    made = tokenizer("llama", LLAMA2)
    made.backend_tokenizer.normalizer = normalizers.NFKC()
    made.add_tokens([AddedToken("</s>", special=True, normalized=True)], special_tokens=True)
    text = "Stop \uff1c/s\uff1e here."
    assert made.convert_tokens_to_ids("</s>") in encode(made, [text])[0].ids
    control = pickle.loads(pickle.dumps(control_tokens(made)))
    assert control(text) == "</s>" and control("Stop </s> here.") == "</s>" and control("Stop \uff1cb\uff1e here.") is None
    assert refuse_answer(text, True, control) == "control token"
    with pytest.raises(UserError, match=r"holds '</s>' in another spelling, which the chat template uses itself"):
        held: Any = {**HELLO, "instruction": None, "messages": [{"role": "user", "content": text}]}
        check_no_control_tokens([held], control)


@pytest.mark.parametrize("init", [CopyInit(kind="copy", token="<late>"), DescriptionInit(text="a <late> word")])
def test_a_start_from_a_token_that_the_model_has_no_row_for_is_refused(zoo: dict[str, Path], tmp_path: Path, init: TokenInit):
    made = load_tokenizer(zoo["qwen2"])
    rows = table_rows(zoo["qwen2"])
    made.add_tokens([f"<filler{number}>" for number in range(rows - len(made))] + ["<late>"])
    for file in zoo["qwen2"].iterdir():
        shutil.copy(file, tmp_path)
    made.save_pretrained(tmp_path)
    said = rf"^task\.token_init\.(token|text): '<late>' is token {rows}, and the model's embedding has {rows} rows"
    with pytest.raises(UserError, match=said):
        check_token_init(made, init, table_rows(tmp_path))
    with pytest.raises(UserError, match=said):
        extend(tmp_path, ["<sep>"], init, 1, tmp_path / "out")
