"""One turn of asking several arms of a run at once.  python -m benchmarks.arms merged|adapter COUNT

``merged``: an engine for each arm; ``adapter``: one engine, with the base model and an adapter of rank ``RANK`` for each arm, of random
weights. Requests name the arms in turns. All else is as in ``benchmarks.servers``.
"""

import argparse
import asyncio
import json
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch

from benchmarks.generators import MODEL
from benchmarks.servers import ENGINE, MAX_MODEL_LEN, REQUESTS, build_kwargs, find_port, measure_whole, wait_until_ready
from delia_ray.core.artifacts import MODEL_KIND, Artifact, Counts, Provenance, Workspace, build_once
from delia_ray.core.config import Config
from delia_ray.models import adopt_model, load_tokenizer, save_model, token_ids
from delia_ray.models.exported import ADAPTER, MERGED, PARITY
from delia_ray.placement import Cluster, Replicas
from delia_ray.ray_runtime.cluster import connect
from delia_ray.serving.endpoint import open_endpoint
from delia_ray.tasks.config import MeanInit
from delia_ray.training.base_model import prepare_base
from delia_ray.training.config import FinetuneConfig, Lora
from delia_ray.training.export.adapter import write_adapter
from delia_ray.training.model import build_trainable, load_trained, merge_trained, save_trained

TOKEN, RANK = "<task>", 16
_STD = 0.02
"""Of the adapters' weights."""


class Seed(Config):
    seed: int


def build_arm(base: Artifact, seed: int, form: str, folder: Path) -> Artifact:
    """Build a model as an export leaves it, in one of its forms."""

    def write(workspace: Workspace) -> Counts:
        tokenizer, dtype = load_tokenizer(base.data), torch.float32
        ids = token_ids(tokenizer, [TOKEN])
        trainable = build_trainable(base.data, ids, FinetuneConfig(parameters=Lora(rank=RANK, dropout=0.0), seed=seed), dtype)
        with torch.no_grad():
            for weight in trainable.saved_parameters():
                weight.normal_(std=_STD)
        trained = folder / f"trained-{seed}"
        save_trained(trainable, trained)
        workspace.data.mkdir(exist_ok=True)
        if form == ADAPTER:
            write_adapter(load_trained(base.data, trained, ids, dtype), ids, workspace.data / ADAPTER)
        else:
            save_model(merge_trained(base.data, trained, ids, dtype), tokenizer, workspace.data)
        (workspace.data / PARITY).write_text(json.dumps({form: {}}))
        return {}

    return build_once(
        folder / f"arm-{seed}",
        stage="arms/1",
        kind=MODEL_KIND,
        request=Seed(seed=seed),
        inputs={"base": base},
        provenance=Provenance(None, []),
        write=write,
    )


def build_arms(form: str, count: int, folder: Path) -> tuple[Artifact, dict[str, Artifact]]:
    """Build the base model and arms over it."""
    base = prepare_base(adopt_model(MODEL), (TOKEN,), MeanInit(), 1, folder / "base", Provenance(None, []))
    return base, {f"arm-{number}": build_arm(base, number, form, folder) for number in range(count)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("form", choices=(MERGED, ADAPTER))
    parser.add_argument("count", type=int)
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    with ProcessPoolExecutor(1, get_context("spawn")) as builder:  # whose memory does not count
        base, arms = builder.submit(build_arms, args.form, args.count, folder).result()
    connect(Cluster())
    replicas = Replicas(port=find_port(), form=args.form)
    engine = ENGINE.model_copy(update={"dtype": build_kwargs()["dtype"], "kv_cache_gib": 0.5})
    began = time.perf_counter()
    with open_endpoint(arms, replicas, engine, MAX_MODEL_LEN, base=base) as url:
        asyncio.run(wait_until_ready(url))
        ready = time.perf_counter() - began
        rates = {count: asyncio.run(measure_whole(url, int(count), list(arms))) for count in REQUESTS}
    work = REQUESTS["16"]
    print(json.dumps({"work": work, "seconds": work / rates["16"], "ready_s": ready, "requests_per_second": rates}), flush=True)


if __name__ == "__main__":
    main()
