"""The models that an experiment trains: one cell for each."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from delia_ray.core.layout import DEFAULT_POOL
from delia_ray.pipeline.experiment.config import ExperimentSettings
from delia_ray.settings import Arm


@dataclass(frozen=True)
class Variant:
    """An arm at one ratio and one size."""

    arm: str
    ratio: float
    """rho: diverse rows for each task row."""
    task_rows: int
    """N."""


@dataclass(frozen=True)
class Cell:
    """One model to train."""

    variant: Variant
    seed: int
    learning_rate: float

    @property
    def name(self) -> str:
        """The folder of its artifacts, below ``arms/``."""
        of = self.variant
        return f"{of.arm}-rho{of.ratio:g}-n{of.task_rows}-seed{self.seed}-lr{self.learning_rate:g}"


def list_variants(settings: ExperimentSettings, task_rows: int) -> list[Variant]:
    """List every arm as it is, then at its other ratios and sizes; none twice.

    Args:
        task_rows: N of an arm that does not say.
    """
    found: dict[Variant, None] = {}
    for name, arm in _get_arms(settings).items():
        config = settings.resolve_mix(arm)
        usual = Variant(name, config.ratio, config.task_rows or task_rows)
        ratios, sizes = settings.experiment.ratios.get(name, ()), settings.experiment.task_rows.get(name, ())
        found |= dict.fromkeys([usual, *(Variant(name, ratio, usual.task_rows) for ratio in ratios)])
        found |= dict.fromkeys(Variant(name, usual.ratio, rows) for rows in sizes)
    return list(found)


def list_tried_cells(settings: ExperimentSettings, planned: list[Variant]) -> list[Cell]:
    """List every variant at every learning rate, with the first seed."""
    return [Cell(each, settings.experiment.seeds[0], rate) for each in planned for rate in _list_rates(settings, each)]


def repeat_over_seeds(settings: ExperimentSettings, chosen: Mapping[Variant, float]) -> list[Cell]:
    """List every variant with every seed, at the learning rate that was chosen for it."""
    return [Cell(each, seed, rate) for each, rate in chosen.items() for seed in settings.experiment.seeds]


def collect_possible_arms(settings: ExperimentSettings, task_rows: int) -> dict[str, Arm]:
    """Collect the arms, by name, of every cell that any choice of learning rates leads to.

    Args:
        task_rows: N of an arm that does not say.
    """
    each_rate = [(each, rate) for each in list_variants(settings, task_rows) for rate in _list_rates(settings, each)]
    cells = [Cell(each, seed, rate) for seed in settings.experiment.seeds for each, rate in each_rate]
    return dict(build_arms(settings, cells).values())


def build_arms(settings: ExperimentSettings, cells: Sequence[Cell]) -> dict[Cell, tuple[str, Arm]]:
    """Build the name and the arm of each cell. Cells that ask for the same training, as two arms may without diverse rows, share both."""
    arms, names = _get_arms(settings), dict[str, str]()
    found: dict[Cell, tuple[str, Arm]] = {}
    for cell in cells:
        of = cell.variant
        said = {"ratio": of.ratio, "task_rows": of.task_rows, "seed": cell.seed, "learning_rate": cell.learning_rate}
        arm = arms[of.arm].model_copy(update={**said, **({} if of.ratio else {"pool": DEFAULT_POOL})})
        found[cell] = (names.setdefault(arm.model_dump_json(), cell.name), arm)
    return found


def _list_rates(settings: ExperimentSettings, variant: Variant) -> tuple[float, ...]:
    own = settings.resolve_finetune(_get_arms(settings)[variant.arm]).learning_rate
    return settings.experiment.learning_rates or (own,)


def _get_arms(settings: ExperimentSettings) -> dict[str, Arm]:
    return {name: arm for name, arm in settings.arms.items() if arm is not None}


def choose_best_rate(candidates: Mapping[float, float | None]) -> float:
    """Choose the learning rate with the highest value on dev: of equal ones the lowest, and so where nothing was measured."""
    return min(candidates, key=lambda rate: (math.inf if (value := candidates[rate]) is None else -value, rate))
