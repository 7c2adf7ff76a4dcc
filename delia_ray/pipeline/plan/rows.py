"""How many rows and tokens each arm is trained on, and how many queries each pool takes, before anything is generated."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from delia_ray.core.errors import UserError
from delia_ray.core.layout import DEFAULT_POOL
from delia_ray.mixing.stage import limit_task_rows
from delia_ray.pipeline.plan.lengths import Bounds, RowLengths
from delia_ray.settings import Arm, Settings
from delia_ray.synthesis.config import SynthesizeConfig
from delia_ray.synthesis.query_config import BlendQueries, MagpieQueries, SelfInstructQueries


@dataclass(frozen=True)
class PoolPlan:
    """A pool of diverse rows."""

    name: str
    needed: int
    """Rows that the arm with most of them takes."""
    queries: int | None
    """Queries to generate; None where they are the user's own rows."""
    answers: int | None
    """Answers to generate to them, at most."""


@dataclass(frozen=True)
class ArmPlan:
    """An arm's training."""

    name: str
    task_rows: int
    """0 where the arm leaves them out."""
    diverse_rows: int
    steps: int
    seen_rows: int
    """Rows of all steps."""
    tokens: Bounds | None
    """Tokens of all steps; None where they cannot be counted without the model."""

    @property
    def epochs(self) -> float:
        """Passes over the arm's rows."""
        return self.seen_rows / (self.task_rows + self.diverse_rows)


def plan_arms(settings: Settings, arms: Mapping[str, Arm], train_rows: int, lengths: Mapping[str, RowLengths]) -> list[ArmPlan]:
    """Plan each arm.

    Args:
        train_rows: training rows of the task.
        lengths: arm -> the lengths of its rows; without those that are not known.

    Raises:
        UserError: an arm takes more rows of the task than there are.
    """
    return [_plan_arm(settings, name, arm, train_rows, lengths.get(name)) for name, arm in arms.items()]


def _plan_arm(settings: Settings, name: str, arm: Arm, train_rows: int, lengths: RowLengths | None) -> ArmPlan:
    mix = settings.resolve_mix(arm)
    task_rows = limit_task_rows(mix, train_rows)
    diverse_rows, mixed = int(mix.ratio * task_rows), task_rows if mix.rows == "mixture" else 0
    steps = settings.count_steps(arm, task_rows)
    seen = steps * settings.finetune.global_batch_size
    tokens = None if lengths is None else lengths.bound_tokens(mixed, diverse_rows, seen)
    return ArmPlan(name, mixed, diverse_rows, steps, seen, tokens)


def plan_pools(settings: Settings, arms: Mapping[str, Arm], train_rows: int) -> list[PoolPlan]:
    """Plan each pool that an arm takes rows of."""
    needed: dict[str, int] = {}
    for arm in arms.values():
        mix = settings.resolve_mix(arm)
        needed[arm.pool] = max(needed.get(arm.pool, 0), int(mix.ratio * limit_task_rows(mix, train_rows)))
    return [_plan_pool(settings, pool, rows) for pool, rows in needed.items() if rows]


def _plan_pool(settings: Settings, pool: str, needed: int) -> PoolPlan:
    config = settings.resolve_synthesize(pool, needed)
    queries = count_queries(config)
    return PoolPlan(pool, needed, queries, None if queries is None or config.mode == "foreign" else queries * config.draws_per_query)


def count_queries(config: SynthesizeConfig) -> int | None:
    """Count the queries that are generated; None where they are rows of the user's."""
    match config.queries:
        case MagpieQueries(rows=rows) | SelfInstructQueries(rows=rows) | BlendQueries(rows=rows):
            return rows
        case _:
            return None


def check_pool_sizes(settings: Settings, pools: Sequence[PoolPlan]) -> None:
    """Refuse a number of queries that cannot fill a pool, whatever is kept of the answers.

    Raises:
        UserError: the pool needs more rows than there will be answers.
    """
    for pool in pools:
        if pool.answers is not None and pool.answers < pool.needed:
            key, _ = settings.find_query_setting(pool.name)
            name = "the pool" if pool.name == DEFAULT_POOL else f"pool {pool.name}"
            raise UserError(
                f"{key}.rows: {pool.queries} queries give at most {pool.answers} diverse rows, and {name} needs {pool.needed}; raise it, "
                "or lower mix.ratio"
            )
