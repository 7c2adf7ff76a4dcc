"""Texts become vectors on actors, like those that generate."""

import ray.data
from ray.data import ActorPoolStrategy

from delia_ray.artifacts import Adopted
from delia_ray.embedding.config import Encoder
from delia_ray.embedding.encoder import Embedder
from delia_ray.placement import ActorPool, Engine
from delia_ray.runtime import check_pool, one_core

_MOST_ACTORS = 8
"""Each loads a model, and a pool that asks a server may be far larger."""


def actors_of(pool: ActorPool) -> int:
    """How many actors embed."""
    return min(pool.size, _MOST_ACTORS)


def embedded(texts: ray.data.Dataset, kind: Encoder, encoder: Adopted, engine: Engine, pool: ActorPool) -> ray.data.Dataset:
    """``texts``, which have a column ``text``, with a column ``vector``. Lazy.

    Raises:
        PlacementError: the cluster cannot hold an actor.
    """
    check_pool(pool.model_copy(update={"size": 1}), "placement.synthesize")
    return texts.map_batches(
        Embedder,
        fn_constructor_args=(kind, encoder.path, engine.dtype),
        batch_format="pyarrow",
        batch_size=None,
        compute=ActorPoolStrategy(min_size=1, max_size=actors_of(pool)),
        num_cpus=pool.num_cpus,
        num_gpus=min(1, pool.num_gpus),
        **one_core(),
    )
