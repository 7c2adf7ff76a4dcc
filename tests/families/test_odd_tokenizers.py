"""Models and tokenizers that need a decision: taken where one can be made, refused by name where not."""

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from family_table import GEMMA, LLAMA2
from rows import HELLO, NAMED, TURN, learnt, tokenizer
from tokenizers import AddedToken, normalizers
from transformers import GenerationConfig, MambaConfig, T5Config
from zoo import make_tokenizer

from delia_ray.errors import UserError
from delia_ray.models import (
    chat_format,
    check_new_tokens,
    check_token_init,
    encode,
    extend,
    load_model,
    load_tokenizer,
    prompt_ids,
    run_precision,
    save_whole,
)
from delia_ray.models.families import check_architecture, table_rows
from delia_ray.synthesis.filters import refuse_answer
from delia_ray.synthesis.prompts import control_tokens
from delia_ray.tasks.config import CopyInit, DescriptionInit, MeanInit, TokenInit
from delia_ray.tasks.messages import check_no_control_tokens
from delia_ray.training.parity import greedy_answers


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


def test_no_special_token_may_stand_in_a_text():
    for name, token in (("phi3", "<|system|>"), ("gemma", "<unused0>"), ("gpt_neox", "<|padding|>")):
        assert token in chat_format(make_tokenizer(NAMED[name])).control_tokens


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


def test_a_token_of_the_templates_own_text_is_refused(zoo: dict[str, Path], tmp_path: Path):
    for name, token in (("llama", "[INST]"), ("gpt_neox", "### User:")):
        with pytest.raises(UserError, match=r"task\.token: .* is part of what the model's chat template writes itself"):
            extend(zoo[name], [token], MeanInit(), 1, tmp_path / name)
