"""Ray Data actors that add embedding vectors to a dataset of texts."""

import ray.data
from ray.data import ActorPoolStrategy

from delia_ray.core.artifacts import Adopted
from delia_ray.embedding.config import Encoder
from delia_ray.embedding.encoder import Embedder
from delia_ray.placement import ActorPool, Engine
from delia_ray.ray_runtime.resources import get_one_core_options

_MAX_ACTORS = 8
"""Each actor loads a model, and a pool that only calls a server may be far larger than that."""


def count_actors(pool: ActorPool) -> int:
    """Return the largest number of embedding actors: that of ``pool``, at most 8."""
    return min(pool.most, _MAX_ACTORS)


def embed_texts(texts: ray.data.Dataset, kind: Encoder, encoder: Adopted, engine: Engine, pool: ActorPool) -> ray.data.Dataset:
    """Add a column ``vector`` to ``texts``, a dataset with a column ``text``. Lazy."""
    return texts.map_batches(
        Embedder,
        fn_constructor_args=(kind, encoder.path, engine.dtype),
        batch_format="pyarrow",
        batch_size=None,
        compute=ActorPoolStrategy(min_size=1, max_size=count_actors(pool)),
        num_cpus=pool.num_cpus,
        num_gpus=min(1, pool.num_gpus),
        **get_one_core_options(),
    )
