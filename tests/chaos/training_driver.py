"""A training run as a separate process, for tests that kill processes.  make FOLDER | train FOLDER OUT"""

import argparse
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from delia_ray.cli.terminal import StageLine
from delia_ray.core.artifacts import MODEL_KIND, Artifact, Counts, Provenance, Workspace, build_once
from delia_ray.core.config import Config
from delia_ray.core.records import MIXED_KIND, MIXED_SCHEMA, keyed_int
from delia_ray.models import adopt_model, load_tokenizer, save_model
from delia_ray.placement import Cluster, TrainWorkers
from delia_ray.ray_runtime.cluster import connect
from delia_ray.training.config import FinetuneConfig, Lora
from delia_ray.training.stage import FinetuneRequest, finetune

STEPS = 40
PROVENANCE = Provenance(None, ["pytest"])
CONFIG = FinetuneConfig(
    parameters=Lora(rank=4, dropout=0.0),
    learning_rate=5e-4,
    warmup_steps=4,
    global_batch_size=8,
    max_seq_len=128,
    checkpoint_every=5,
    precision="float32",
)


class NoRequest(Config):
    pass


def make(folder: Path) -> None:
    """Build a small random model and a mixture of 64 rows."""
    tokenizer = load_tokenizer(adopt_model("builtin:smollm2-135m-instruct").path)

    def model(workspace: Workspace) -> Counts:
        torch.manual_seed(0)
        config = LlamaConfig(
            hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
            vocab_size=49152, max_position_embeddings=512, bos_token_id=1, eos_token_id=2, pad_token_id=2,
        )  # fmt: skip
        save_model(LlamaForCausalLM(config), tokenizer, workspace.data)
        return {}

    def mixed(workspace: Workspace) -> Counts:
        rows = [_row(group, n) for group in ("task", "diverse") for n in range(32)]
        pq.write_table(pa.Table.from_pylist(rows, schema=MIXED_SCHEMA), workspace.data / "0.parquet")
        return {"rows": len(rows)}

    for name, kind, write in (("model", MODEL_KIND, model), ("mixed", MIXED_KIND, mixed)):
        build_once(folder / name, stage="given/1", kind=kind, request=NoRequest(), inputs={}, provenance=PROVENANCE, write=write)


def _row(group: str, n: int) -> dict[str, Any]:
    question, answer = (
        (f"Judge number {n}.", "yes " * (n % 5 + 1)) if group == "task" else (f"Tell {n} words of a fox.", "a fox " * (n % 9 + 2))
    )
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    key = keyed_int(0, "order", f"{group}-{n}")
    return {"example_id": f"{group}-{n}", "group": group, "messages": messages, "label": None, "order_key": key}


def train(folder: Path, out: Path, workers: TrainWorkers, address: str | None) -> None:
    """Fine-tune that model on that mixture."""
    base, mixed = Artifact.open(folder / "model", MODEL_KIND), Artifact.open(folder / "mixed", MIXED_KIND)
    request = FinetuneRequest(finetune=CONFIG, steps=STEPS, new_tokens=())
    finetune(request, base, mixed, workers, lambda _=None: connect(Cluster(address=address)), StageLine("train"), out, PROVENANCE)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("verb", choices=["make", "train"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("--fewest", type=int, default=1)
    parser.add_argument("--most", type=int, default=1)
    parser.add_argument("--num-cpus", type=float, default=1)
    parser.add_argument("--address")
    args = parser.parse_args()
    if args.verb == "make":
        make(args.folder)
    else:
        several = args.fewest if args.fewest == args.most else (args.fewest, args.most)
        train(args.folder, args.out, TrainWorkers(workers=several, num_cpus=args.num_cpus, max_failures=3), args.address)


if __name__ == "__main__":
    main()
