"""The models that an experiment trains."""

from typing import Any

import pytest

from delia_ray.core.config import ConfigError, build_config
from delia_ray.pipeline.experiment.cells import (
    Cell,
    Variant,
    build_arms,
    choose_best_rate,
    collect_possible_arms,
    list_tried_cells,
    list_variants,
    repeat_over_seeds,
)
from delia_ray.pipeline.experiment.config import ExperimentSettings

ARMS = "arms={sft: {ratio: 0, wordings: original}, plain: {ratio: 0}, delia: {}, replay: {pool: foreign}}"
POOLS = "pools={foreign: {system_prompt: as a sailor}}"


def settings(*overrides: str) -> ExperimentSettings:
    return build_config(ExperimentSettings, [], ["run.name=x", "mix.ratio=6", ARMS, POOLS, *overrides])


def test_every_arm_stands_at_its_own_ratio_first_and_none_twice():
    found = list_variants(settings("experiment.ratios={delia: [0, 2, 6]}", "experiment.task_rows={delia: [8]}"), 24)
    assert [each for each in found if each.arm == "delia"] == [
        Variant("delia", 6, 24),
        Variant("delia", 0, 24),
        Variant("delia", 2, 24),
        Variant("delia", 6, 8),
    ]
    assert len(found) == 7


def test_every_arm_is_tried_at_as_many_learning_rates_and_trained_with_as_many_seeds():
    asked = settings("experiment={seeds: [3, 4], learning_rates: [1e-4, 2e-4]}")
    planned = list_variants(asked, 24)
    rates: dict[Variant, list[Any]] = {
        each: [cell.learning_rate for cell in list_tried_cells(asked, planned) if cell.variant == each] for each in planned
    }
    assert set(map(tuple, rates.values())) == {(1e-4, 2e-4)}
    assert {cell.seed for cell in list_tried_cells(asked, planned)} == {3}
    cells = repeat_over_seeds(asked, dict.fromkeys(planned, 2e-4))
    assert len(cells) == 2 * len(planned) and {cell.learning_rate for cell in cells} == {2e-4}


def test_without_rates_to_try_an_arm_keeps_its_own():
    asked = settings("arms.sft.learning_rate=3e-4", "finetune.learning_rate=1e-4")
    assert {cell.variant.arm: cell.learning_rate for cell in list_tried_cells(asked, list_variants(asked, 24))} == {
        "sft": 3e-4, "plain": 1e-4, "delia": 1e-4, "replay": 1e-4
    }  # fmt: skip


def test_arms_that_ask_for_the_same_training_share_it():
    asked = settings("experiment.ratios={delia: [0], replay: [0]}")
    arms = build_arms(asked, [Cell(each, 0, 1e-4) for each in list_variants(asked, 24)])
    names = {(cell.variant.arm, cell.variant.ratio): name for cell, (name, _) in arms.items()}
    assert names["delia", 0] == names["replay", 0] == names["plain", 0]
    assert names["delia", 6] != names["replay", 6] and names["sft", 0] != names["plain", 0]


def test_the_best_rate_is_the_highest_on_dev_and_the_lowest_of_equals():
    assert choose_best_rate({1e-3: 0.2, 1e-4: 0.5, 1e-5: 0.5}) == 1e-5
    assert choose_best_rate({1e-3: None, 1e-4: 0.0}) == 1e-4
    assert choose_best_rate({1e-3: None, 1e-4: None}) == 1e-4


@pytest.mark.parametrize(
    "overrides, said",
    [
        (["experiment.ratios={dleia: [1]}"], "experiment.ratios.dleia: no arm has that name"),
        (["experiment.rival=none"], "experiment.rival: no arm is called 'none'"),
        (["experiment.seeds=[0, 0]"], "seeds: [0, 0] has a value twice"),
        (["arms.replay.pool=foriegn"], "arms.replay.pool: no pool is called 'foriegn'"),
        (["pools.diverse={seed: 1}"], "pools.diverse: that is what synthesize makes"),
    ],
)
def test_a_grid_that_names_what_is_not_there_is_refused(overrides: list[str], said: str):
    with pytest.raises(ConfigError) as refused:
        settings(*overrides)
    assert said in str(refused.value)


def test_a_pool_says_only_where_it_differs():
    asked = settings("synthesize.answers.max_tokens=40", "pools.foreign.queries={topics: [cooking]}")
    pool = asked.pools["foreign"]
    assert (pool.system_prompt, pool.answers.max_tokens) == ("as a sailor", 40)
    assert pool.queries.kind == "magpie" and pool.queries.topics == ("cooking",)


def test_every_cell_that_an_experiment_may_train_can_be_named():
    given = settings("experiment.seeds=[0, 1]", "experiment.learning_rates=[0.1, 0.2]", "experiment.ratios={delia: [1, 2]}")
    arms = collect_possible_arms(given, 8)
    for rate in (0.1, 0.2):
        chosen = repeat_over_seeds(given, dict.fromkeys(list_variants(given, 8), rate))
        assert dict(build_arms(given, chosen).values()).items() <= arms.items()
