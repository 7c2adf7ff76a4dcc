"""Unusual models and tokenizers: supported or refused by name."""

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from family_table import GEMMA, LLAMA2
from rows import FAMILY_BY_NAME, HELLO, TURN, build_tokenizer, list_trained_tokens
from tokenizers import AddedToken, normalizers
from transformers import GenerationConfig, MambaConfig, T5Config
from zoo import build_family_tokenizer

from delia_ray.core.errors import UserError
from delia_ray.models import (
    add_new_tokens,
    check_new_tokens,
    check_token_init,
    choose_precision,
    detect_chat_format,
    encode,
    encode_prompt,
    load_model,
    load_tokenizer,
    resolve_run_precision,
    save_model,
)
from delia_ray.models.families import check_architecture, embedding_rows
from delia_ray.synthesis.filtering.filters import reject_answer
from delia_ray.synthesis.prompts import control_tokens
from delia_ray.tasks.config import CopyInit, DescriptionInit, MeanInit, TokenInit
from delia_ray.tasks.messages import check_no_control_tokens
from delia_ray.training.export.greedy import generate_greedy


def test_a_reserved_token_counts_as_new_and_a_word_does_not():
    tokenizer = build_tokenizer("gemma", GEMMA)
    check_new_tokens(tokenizer, ["<sep>", "<unused0>"], MeanInit())
    for token in ("<end_of_turn>", "<eos>", "a"):
        with pytest.raises(UserError, match=rf"task\.token: '{token}' is already in the vocabulary.*<unused0>"):
            check_new_tokens(tokenizer, [token], MeanInit())


def test_sampling_parameters_are_removed_from_an_exported_model(zoo: dict[str, Path], tmp_path: Path):
    model, tokenizer = load_model(zoo["llama3"], torch.float32), load_tokenizer(zoo["llama3"])
    model.generation_config = GenerationConfig(
        do_sample=True, temperature=0.6, top_p=0.9, top_k=20, min_p=0.1, typical_p=0.9, repetition_penalty=1.3, no_repeat_ngram_size=3,
        eos_token_id=[1, 4],
    )  # fmt: skip
    save_model(model, tokenizer, tmp_path)
    stored = json.loads((tmp_path / "generation_config.json").read_text())
    assert set(stored) <= {"bos_token_id", "eos_token_id", "pad_token_id", "do_sample", "transformers_version"}
    assert stored["eos_token_id"] == [1, 4]


def test_prompts_are_padded_without_a_pad_token(zoo: dict[str, Path]):
    tokenizer, model = load_tokenizer(zoo["mistral"]), load_model(zoo["mistral"], torch.float32).eval()
    assert tokenizer.pad_token is None
    model.generation_config.eos_token_id = [tokenizer.eos_token_id]
    batched = generate_greedy(model, tokenizer, [[1, 20, 21, 22, 23], [1, 30]], 6)
    assert batched == [generate_greedy(model, tokenizer, [ids], 6)[0] for ids in ([1, 20, 21, 22, 23], [1, 30])]


def test_an_architecture_without_support_for_new_tokens_is_refused(tmp_path: Path, zoo: dict[str, Path]):
    T5Config().save_pretrained(tmp_path / "t5")
    MambaConfig(num_hidden_layers=1, hidden_size=32).save_pretrained(tmp_path / "mamba")
    with pytest.raises(UserError, match=r"t5 is no causal language model that transformers can build .*T5Config"):
        check_architecture(tmp_path / "t5")
    for folder in (tmp_path / "mamba", *zoo.values()):
        check_architecture(folder)


def test_the_precision_of_a_run_is_chosen_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    record = tmp_path / "run" / "precision.json"
    assert resolve_run_precision(record, "float16", choose_precision) == "float16" and not record.exists()
    monkeypatch.setattr("delia_ray.models.precision.resolve_dtype", lambda _: torch.float32)
    assert resolve_run_precision(record, "auto", choose_precision) == "float32"
    monkeypatch.setattr("delia_ray.models.precision.resolve_dtype", lambda _: torch.bfloat16)
    assert resolve_run_precision(record, "auto", choose_precision) == resolve_run_precision(record, "auto", lambda: "bfloat16") == "float32"
    assert resolve_run_precision(tmp_path / "other" / "precision.json", "auto", lambda: "bfloat16") == "bfloat16"


def test_saved_padding_and_truncation_are_ignored(tmp_path: Path):
    tokenizer = build_family_tokenizer(FAMILY_BY_NAME["qwen2"])
    tokenizer.backend_tokenizer.enable_truncation(8)
    tokenizer.backend_tokenizer.enable_padding(length=64)
    tokenizer.save_pretrained(tmp_path)
    loaded = load_tokenizer(tmp_path)
    assert encode_prompt(loaded, TURN) == loaded.apply_chat_template(TURN, add_generation_prompt=True, return_dict=False)
    assert "".join(text for text, _ in list_trained_tokens(loaded)) == "Hello<|im_end|>"


def test_special_tokens_are_control_tokens():
    for name, token in (("phi3", "<|system|>"), ("gemma", "<unused0>"), ("gpt_neox", "<|padding|>")):
        assert token in detect_chat_format(build_family_tokenizer(FAMILY_BY_NAME[name])).control_tokens


def test_texts_that_normalize_to_a_control_token_are_refused():
    tokenizer = build_tokenizer("llama", LLAMA2)
    tokenizer.backend_tokenizer.normalizer = normalizers.NFKC()
    tokenizer.add_tokens([AddedToken("</s>", special=True, normalized=True)], special_tokens=True)
    text = "Stop \uff1c/s\uff1e here."
    assert tokenizer.convert_tokens_to_ids("</s>") in encode(tokenizer, [text])[0].ids
    control = pickle.loads(pickle.dumps(control_tokens(tokenizer)))
    assert control(text) == "</s>" and control("Stop </s> here.") == "</s>" and control("Stop \uff1cb\uff1e here.") is None
    assert reject_answer(text, True, control) == "control token"
    with pytest.raises(UserError, match=r"holds '</s>' in another spelling, which the chat template uses itself"):
        item: Any = {**HELLO, "instruction": None, "messages": [{"role": "user", "content": text}]}
        check_no_control_tokens([item], control)


@pytest.mark.parametrize("init", [CopyInit(kind="copy", token="<late>"), DescriptionInit(text="a <late> word")])
def test_an_init_from_a_token_without_a_row_is_refused(zoo: dict[str, Path], tmp_path: Path, init: TokenInit):
    tokenizer = load_tokenizer(zoo["qwen2"])
    rows = embedding_rows(zoo["qwen2"])
    tokenizer.add_tokens([f"<filler{number}>" for number in range(rows - len(tokenizer))] + ["<late>"])
    for file in zoo["qwen2"].iterdir():
        shutil.copy(file, tmp_path)
    tokenizer.save_pretrained(tmp_path)
    message = rf"^task\.token_init\.(token|text): '<late>' is token {rows}, and the model's embedding has {rows} rows"
    with pytest.raises(UserError, match=message):
        check_token_init(tokenizer, init, embedding_rows(tmp_path))
    with pytest.raises(UserError, match=message):
        add_new_tokens(tmp_path, ["<sep>"], init, 1, tmp_path / "out")


def test_a_token_that_the_template_renders_is_refused(zoo: dict[str, Path], tmp_path: Path):
    for name, token in (("llama", "[INST]"), ("gpt_neox", "### User:")):
        with pytest.raises(UserError, match=r"task\.token: .* is part of what the model's chat template writes itself"):
            add_new_tokens(zoo[name], [token], MeanInit(), 1, tmp_path / name)
