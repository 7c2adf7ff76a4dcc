"""Generation of queries in its own process, for tests that kill processes.  make FOLDER | generate FOLDER OUT CACHE"""

import argparse
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from delia_ray.cli.terminal import StageLine
from delia_ray.core.artifacts import Provenance
from delia_ray.models import ModelFolder, adopt_model, load_tokenizer, save_model
from delia_ray.placement import ActorPool, Cluster, Engine
from delia_ray.ray_runtime.cluster import connect
from delia_ray.synthesis.config import SynthesizeConfig
from delia_ray.synthesis.context import GenerationContext
from delia_ray.synthesis.queries_stage import generate_queries
from delia_ray.synthesis.query_config import MagpieQueries

ROWS = 400


def make(folder: Path) -> None:
    """A small random model."""
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, vocab_size=49152,
        max_position_embeddings=2048, initializer_range=0.3, bos_token_id=1, eos_token_id=2, pad_token_id=2,
    )  # fmt: skip
    save_model(LlamaForCausalLM(config), load_tokenizer(adopt_model("builtin:smollm2-135m-instruct").path), folder)


def generate(folder: Path, out: Path, cache: Path, pool: ActorPool, address: str | None) -> None:
    """Generate ``ROWS`` queries with that model."""
    config = SynthesizeConfig(queries=MagpieQueries(rows=ROWS, max_tokens=24))
    engine = Engine(dtype="float32", max_num_seqs=8, kv_cache_gib=0.25)
    model = ModelFolder(folder, "tiny")
    generate_queries(
        config,
        GenerationContext(
            model,
            engine,
            pool,
            cache,
            lambda _=None: connect(Cluster(address=address)),
            StageLine("generate"),
            Provenance(None, ["pytest"]),
        ),
        out,
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("verb", choices=["make", "generate"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path, nargs="?")
    parser.add_argument("cache", type=Path, nargs="?")
    parser.add_argument("--actors", type=int, default=1)
    parser.add_argument("--num-cpus", type=float, default=1)
    parser.add_argument("--address")
    args = parser.parse_args()
    if args.verb == "make":
        make(args.folder)
    else:
        pool = ActorPool(size=args.actors, num_cpus=args.num_cpus, batch_rows=4, concurrent_batches=4)
        generate(args.folder, args.out, args.cache, pool, args.address)


if __name__ == "__main__":
    main()
