"""Script that generates greedy answers of several models with vLLM: folders on the command line, ``answers.json`` in each.

It is a separate process because an engine keeps its memory until the process ends.
"""

import json
import os
import sys
from pathlib import Path

os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "HF_HUB_OFFLINE": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}

from vllm import LLM, SamplingParams
from vllm.distributed import cleanup_dist_env_and_memory
from vllm.inputs import TokensPrompt

ARGUMENTS = {"dtype": "float32", "max_model_len": 256, "enforce_eager": True, "max_num_seqs": 8, "distributed_executor_backend": "uni"}


def generate_answers(folder: Path) -> list[list[int]]:
    """Generate answers, as token ids, to ``prompts.json``, rendered by the test, and to ``chat.json``, rendered by vLLM."""
    prompts, chat = (json.loads((folder / name).read_text()) for name in ("prompts.json", "chat.json"))
    llm = LLM(model=str(folder), **ARGUMENTS)
    sampling = SamplingParams(temperature=0.0, max_tokens=24)
    outputs = llm.generate([TokensPrompt(prompt_token_ids=ids) for ids in prompts], sampling, use_tqdm=False)
    chat_output = llm.chat(chat, sampling, use_tqdm=False)[0]
    answers = [list(output.outputs[0].token_ids) for output in outputs]
    cleanup_dist_env_and_memory()
    return [*answers, list(chat_output.prompt_token_ids or ()), list(chat_output.outputs[0].token_ids)]


if __name__ == "__main__":
    for folder in map(Path, sys.argv[1:]):
        (folder / "answers.json").write_text(json.dumps(generate_answers(folder)))
