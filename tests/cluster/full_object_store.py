"""A job that keeps objects in the object store of every worker, also of those that are added, until it is ended."""

import time
from typing import Any

import numpy as np
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

_OBJECT_BYTES, _OBJECTS = 20_000_000, 9
"""Nine of them leave a tenth of a node's 200 MB."""


@ray.remote(num_cpus=0)
def make_object() -> np.ndarray:
    return np.ones(_OBJECT_BYTES, dtype=np.uint8)


def main() -> None:
    ray.init(log_to_driver=False)
    kept: dict[str, list[Any]] = {}
    while True:
        for node in ray.nodes():
            if node["Alive"] and node["Resources"].get("CPU") and node["NodeID"] not in kept:
                here = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
                kept[node["NodeID"]] = [make_object.options(scheduling_strategy=here).remote() for _ in range(_OBJECTS)]
        time.sleep(0.5)


if __name__ == "__main__":
    main()
