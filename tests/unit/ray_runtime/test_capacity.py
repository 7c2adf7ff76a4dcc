"""Whether nodes hold what a stage reserves."""

import pytest

from delia_ray.placement import ActorPool, Replicas, TrainWorkers
from delia_ray.ray_runtime.capacity import (
    Bundle,
    demand_of_engine,
    demand_of_pool,
    demand_of_replicas,
    demand_of_stage,
    demand_of_workers,
    fits,
)

LARGE, SMALL, HEAD = {"CPU": 8.0, "GPU": 1.0}, {"CPU": 4.0}, {"CPU": 0.0, "memory": 1e9}


@pytest.mark.parametrize(
    ("bundles", "nodes", "fit"),
    [
        ([{"CPU": 4.0}], [HEAD], False),
        ([{"CPU": 8.0}], [SMALL, SMALL], False),  # one bundle lies on one node
        ([{"CPU": 4.0}] * 2, [SMALL, SMALL], True),
        ([{"CPU": 4.0}] * 3, [SMALL, SMALL], False),
        ([{"CPU": 1.0}] * 4 + [{"CPU": 8.0, "GPU": 1.0}], [LARGE, SMALL], True),  # the largest is placed first
        ([{"CPU": 1.0, "GPU": 1.0}] * 2, [LARGE], False),
        ([{"CPU": 0.1}] * 10, [{"CPU": 1.0}], True),  # ten tenths are one, whatever floats say
        ([], [], True),
    ],
)
def test_what_is_reserved_together_fits_or_not(bundles: list[Bundle], nodes: list[Bundle], fit: bool):
    assert fits(bundles, nodes) is fit


def test_a_pool_begins_with_its_least_size_and_a_cpu_that_reads():
    demand = demand_of_pool(ActorPool(size=(2, 8), num_cpus=4, num_gpus=1), "placement.synthesize")
    assert demand.bundles == ({"CPU": 4.0, "GPU": 1.0}, {"CPU": 4.0, "GPU": 1.0}, {"CPU": 1.0})
    assert str(demand) == "2 x (4 CPUs, 1 GPU) and 1 x (1 CPU)"


def test_every_gpu_of_a_tensor_parallel_engine_is_a_bundle():
    demand = demand_of_pool(ActorPool(size=1, num_cpus=2, num_gpus=2), "placement.synthesize")
    assert demand.bundles == ({"CPU": 2.0, "GPU": 1.0},) * 2 + ({"CPU": 1.0},)
    assert demand_of_replicas(Replicas(num_cpus=2, num_gpus=2), 1).bundles == ({"CPU": 2.0, "GPU": 1.0}, {"GPU": 1.0})


def test_elastic_training_begins_with_its_least_number_of_workers():
    assert demand_of_workers(TrainWorkers(workers=(2, 4), num_cpus=8, num_gpus=1)).bundles == ({"CPU": 8.0, "GPU": 1.0},) * 2


def test_engines_that_share_a_gpu_reserve_a_part_of_it():
    thirds = Replicas(num_gpus=0.3)
    assert demand_of_replicas(thirds, 3).bundles == ({"CPU": 1.0, "GPU": 0.3},) * 3 + ({"CPU": 1.0},)
    assert fits(demand_of_replicas(thirds, 3).bundles, [LARGE])
    assert not fits(demand_of_replicas(thirds, 4).bundles, [LARGE])


def test_the_gpus_of_a_tensor_parallel_engine_are_those_of_one_node():
    demand = demand_of_stage(ActorPool(num_gpus=2, pipeline_parallel=3), "placement.synthesize")
    assert demand.bundles == ({"CPU": 1.0, "GPU": 2.0},)
    assert not fits(demand.bundles, [LARGE] * 6) and fits(demand.bundles, [{"CPU": 8.0, "GPU": 2.0}])


def test_every_stage_of_a_pipeline_has_gpus_of_its_own():
    demand = demand_of_pool(ActorPool(num_gpus=2, pipeline_parallel=3), "placement.synthesize")
    assert demand.bundles == ({"CPU": 1.0, "GPU": 1.0},) * 6 + ({"CPU": 1.0},)


def test_an_engine_of_several_stages_may_be_on_several_nodes():
    stages = Replicas(num_cpus=2, num_gpus=4, pipeline_parallel=2)
    nodes = [{"CPU": 8.0, "GPU": 4.0}] * 2
    assert demand_of_engine(stages).bundles == demand_of_replicas(stages, 1).bundles and fits(demand_of_engine(stages).bundles, nodes)
    assert demand_of_engine(Replicas(num_gpus=4)).bundles == ({"CPU": 1.0, "GPU": 4.0},)
    assert demand_of_engine(Replicas()).bundles == ({"CPU": 1.0},)
