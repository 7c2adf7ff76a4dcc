"""Whatever the family, vLLM writes what transformers writes, from the prompt that was trained on."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from family_table import FAMILIES
from test_chat import QUESTION

from delia_ray.models import load_model, load_tokenizer, prompt_ids, stop_ids
from delia_ray.records import Message
from delia_ray.training.parity import greedy_answers, until_stop

PROMPTS: list[list[Message]] = [
    [QUESTION],
    [{"role": "user", "content": "Name a fruit."}],
    [{"role": "user", "content": "Say hello to the user."}],
]


@pytest.fixture(scope="module")
def answered(starts: dict[str, Path]) -> dict[str, Path]:
    """The folders of all families that vLLM serves on a CPU, with what it answered in ``answers.json``."""
    folders = {family.name: starts[family.name] for family in FAMILIES if family.on_vllm}
    for folder in folders.values():
        tokenizer = load_tokenizer(folder)
        (folder / "prompts.json").write_text(json.dumps([prompt_ids(tokenizer, messages) for messages in PROMPTS]))
        (folder / "chat.json").write_text(json.dumps(PROMPTS[1]))
    script = Path(__file__).with_name("vllm_answers.py")
    done = subprocess.run([sys.executable, str(script), *map(str, folders.values())], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return folders


@pytest.mark.parametrize("name", [family.name for family in FAMILIES if family.on_vllm])
def test_both_stacks_answer_alike(answered: dict[str, Path], name: str):
    folder = answered[name]
    tokenizer, model = load_tokenizer(folder), load_model(folder, torch.float32).eval()
    prompts = json.loads((folder / "prompts.json").read_text())
    *theirs, chat_prompt, chat_answer = json.loads((folder / "answers.json").read_text())
    stops = stop_ids(tokenizer, model.generation_config.eos_token_id)
    ours = greedy_answers(model, tokenizer, prompts, 24)
    assert [until_stop(ids, stops) for ids in theirs] == ours
    assert any(len(set(ids)) > 2 for ids in ours), "answers of one token tell nothing"
    assert chat_prompt == prompts[1] and until_stop(chat_answer, stops) == ours[1]
