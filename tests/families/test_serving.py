"""For every family, vLLM generates the same answers as transformers, from the trained prompt."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from family_table import FAMILIES
from test_chat import QUESTION

from delia_ray.core.records import Message
from delia_ray.models import encode_prompt, find_stop_token_ids, load_model, load_tokenizer
from delia_ray.training.export.greedy import cut_at_stop, generate_greedy

PROMPTS: list[list[Message]] = [
    [QUESTION],
    [{"role": "user", "content": "Name a fruit."}],
    [{"role": "user", "content": "Say hello to the user."}],
]


@pytest.fixture(scope="module")
def answered(extended: dict[str, Path]) -> dict[str, Path]:
    """Model folders of all families that vLLM serves on a CPU, with its answers in ``answers.json``."""
    folders = {family.name: extended[family.name] for family in FAMILIES if family.on_vllm}
    for folder in folders.values():
        tokenizer = load_tokenizer(folder)
        (folder / "prompts.json").write_text(json.dumps([encode_prompt(tokenizer, messages) for messages in PROMPTS]))
        (folder / "chat.json").write_text(json.dumps(PROMPTS[1]))
    script = Path(__file__).with_name("vllm_answers.py")
    process = subprocess.run([sys.executable, str(script), *map(str, folders.values())], capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr[-4000:]
    return folders


@pytest.mark.parametrize("name", [family.name for family in FAMILIES if family.on_vllm])
def test_vllm_and_transformers_give_equal_answers(answered: dict[str, Path], name: str):
    folder = answered[name]
    tokenizer, model = load_tokenizer(folder), load_model(folder, torch.float32).eval()
    prompts = json.loads((folder / "prompts.json").read_text())
    *vllm_answers, chat_prompt, chat_answer = json.loads((folder / "answers.json").read_text())
    stops = find_stop_token_ids(tokenizer, model.generation_config.eos_token_id)
    answers = generate_greedy(model, tokenizer, prompts, 24)
    assert [cut_at_stop(ids, stops) for ids in vllm_answers] == answers
    assert any(len(set(ids)) > 2 for ids in answers), "answers of one token show nothing"
    assert chat_prompt == prompts[1] and cut_at_stop(chat_answer, stops) == answers[1]
