"""Script that answers one batch of requests, some through adapters, and prints the token ids.

It is a separate process because an engine keeps its memory until the process ends.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

os.environ |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "HF_HUB_OFFLINE": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}

from vllm import LLM, SamplingParams
from vllm.lora.request import LoRARequest

from delia_ray.models.exported import read_rank
from delia_ray.upstream.vllm_lora import build_adapter_kwargs

ARGUMENTS = {"dtype": "float32", "max_model_len": 256, "enforce_eager": True, "max_num_seqs": 8, "distributed_executor_backend": "uni"}


def main(base: str, fewer_places: int, adapters: list[str]) -> None:
    kwargs = build_adapter_kwargs([read_rank(Path(each)) for each in adapters])
    kwargs["max_loras"] -= fewer_places
    llm = LLM(model=base, **ARGUMENTS, **kwargs)
    requests: list[Any] = [LoRARequest(str(number), number, path) for number, path in enumerate(adapters, 1)]
    chats: Any = [[{"role": "user", "content": "Name a fruit."}]] * (len(adapters) + 1)
    requests.append(None)  # the base
    outputs = llm.chat(chats, SamplingParams(temperature=0.0, max_tokens=12), use_tqdm=False, lora_request=requests)
    print(json.dumps([list(output.outputs[0].token_ids) for output in outputs]))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
