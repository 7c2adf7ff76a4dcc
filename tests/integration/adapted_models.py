"""Models with adapters of random weights, as an export leaves them."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from training_runs import PROVENANCE, TOKEN

from delia_ray.core.artifacts import MODEL_KIND, Artifact, Counts, Workspace, build_once
from delia_ray.core.config import Config
from delia_ray.models import encode_prompt, load_model, load_tokenizer, save_model, token_ids
from delia_ray.models.exported import ADAPTER, MERGED, PARITY
from delia_ray.training.config import FinetuneConfig, Lora
from delia_ray.training.export.adapter import write_adapter
from delia_ray.training.export.greedy import generate_greedy
from delia_ray.training.model import build_trainable, load_trained, merge_trained, save_trained

_WORDS = ("a river", "a fruit", "the sea", "a king", "one star", "some rain", "the end", "a road")


class Seed(Config):
    seed: int


def train_at_random(base: Path, seed: int, folder: Path) -> None:
    """Write what a training leaves in a checkpoint, with an adapter and a new token's embeddings of random weights."""
    config = FinetuneConfig(parameters=Lora(rank=4, dropout=0.0), seed=seed, precision="float32")
    trainable = build_trainable(base, token_ids(load_tokenizer(base), [TOKEN]), config, torch.float32)
    with torch.no_grad():
        for weight in trainable.saved_parameters():
            weight.normal_(std=0.3)
    save_trained(trainable, folder)


def write_rows(folder: Path) -> None:
    """Write the data of a rewritten task whose prompts hold the token."""
    folder.mkdir()
    for split in ("train", "test"):
        rows = [
            {
                "example_id": f"{split}-{number}",
                "group": "task",
                "label": None,
                "messages": [{"role": "user", "content": f"{TOKEN} Name {text}."}, {"role": "assistant", "content": "Yes."}],
            }
            for number, text in enumerate(_WORDS)
        ]
        pq.write_table(pa.Table.from_pylist(rows), folder / f"{split}.parquet")


def build_adapted(base: Artifact, seed: int, place: Path, scratch: Path) -> Artifact:
    """Build a model, merged and as an adapter, whose adapter and new token's embeddings are random."""

    def write(workspace: Workspace) -> Counts:
        tokenizer = load_tokenizer(base.data)
        ids = token_ids(tokenizer, [TOKEN])
        train_at_random(base.data, seed, scratch)
        write_adapter(load_trained(base.data, scratch, ids, torch.float32), ids, workspace.data / ADAPTER)
        save_model(merge_trained(base.data, scratch, ids, torch.float32), tokenizer, workspace.data)
        (workspace.data / PARITY).write_text(json.dumps({MERGED: {"prompts": 1, "equal": 1}, ADAPTER: {"prompts": 1, "equal": 1}}))
        return {}

    return build_once(
        place, stage="adapted/1", kind=MODEL_KIND, request=Seed(seed=seed), inputs={"base": base}, provenance=PROVENANCE, write=write
    )


def answer(model: Artifact, text: str, max_tokens: int) -> str:
    """The greedy answer of transformers to a question, from the merged weights."""
    tokenizer = load_tokenizer(model.data)
    prompt = encode_prompt(tokenizer, [{"role": "user", "content": text}])
    ids = generate_greedy(load_model(model.data, torch.float32).eval(), tokenizer, [prompt], max_tokens)[0]
    return tokenizer.decode(ids, skip_special_tokens=True)
