"""The plan of a run: all of it that can be known before the run starts, with every mistake instead of the first."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TypeVar

from delia_ray.core.building import UnfinishedError, building_nothing
from delia_ray.core.errors import UserError
from delia_ray.core.mirrored_run import pull_run
from delia_ray.core.storage.paths import is_remote
from delia_ray.models import ModelFolder
from delia_ray.pipeline.check import is_scored, list_run_checks
from delia_ray.pipeline.plan.examples import TaskRows, TrainingExamples
from delia_ray.pipeline.plan.lengths import RowLengths, measure_lengths
from delia_ray.pipeline.plan.memory import EnginePlan, WorkerPlan, check_gpus, plan_engines, plan_workers
from delia_ray.pipeline.plan.planned_run import PlannedRun
from delia_ray.pipeline.plan.rows import ArmPlan, PoolPlan, check_pool_sizes, plan_arms, plan_pools
from delia_ray.pipeline.plan.sample import Segment, show_mask
from delia_ray.pipeline.plan.states import StepState, list_states
from delia_ray.pipeline.validate import check_root
from delia_ray.settings import Settings

T = TypeVar("T")


@dataclass
class Plan:
    """What is known of a run; a part that a mistake hides is empty."""

    errors: list[str] = field(default_factory=list[str])
    states: Sequence[StepState] = ()
    task: TaskRows | None = None
    pools: Sequence[PoolPlan] = ()
    arms: Sequence[ArmPlan] = ()
    lengths: dict[str, RowLengths] = field(default_factory=dict[str, RowLengths])
    """Arm -> the lengths of its rows."""
    precision: str = ""
    workers: Sequence[WorkerPlan] = ()
    engines: Sequence[EnginePlan] = ()
    sample: Sequence[Segment] = ()
    """A row of the task as the first arm that has any is trained on it."""

    def ask(self, part: Callable[[], T]) -> T | None:
        """Return ``part``, or None and keep the error that hides it, once."""
        try:
            return part()
        except UserError as error:
            if str(error) not in self.errors:
                self.errors.append(str(error))
            return None


def make_plan(settings: Settings) -> Plan:
    """Look at everything that ``delia run`` would do with ``settings``; nothing is started or written."""
    run, plan = PlannedRun.open(settings), Plan()
    if not plan.ask(partial(_open_root, settings)) and is_remote(settings.run.path):
        return plan
    model = plan.ask(lambda: run.local_model)
    for check in plan.ask(lambda: list_run_checks(run, model, serves=not is_scored(run))) or ():
        plan.ask(check)
    plan.task = plan.ask(lambda: TaskRows.build(settings))
    if plan.task is not None:
        _plan_rows(plan, run, model, plan.task)
    plan.states = list_states(run, [pool.name for pool in plan.pools])
    plan.errors += [state.error for state in plan.states if state.error]
    plan.ask(partial(_check_finished_pools, run))
    return plan


def _open_root(settings: Settings) -> bool:
    """Return whether the run could be written, and what is finished of it in a bucket looked at.

    Raises:
        UserError: the run could not be written.
    """
    check_root(settings)
    pull_run(settings.run.path)
    return True


def _plan_rows(plan: Plan, run: PlannedRun, model: ModelFolder | None, task: TaskRows) -> None:
    """Count rows and tokens, and from them the memory."""
    settings, train_rows = run.settings, len(task.items["train"])
    plan.pools = plan.ask(lambda: plan_pools(settings, run.arms, train_rows)) or ()
    plan.ask(lambda: check_pool_sizes(settings, plan.pools))
    if model is not None:
        _measure_rows(plan, run, TrainingExamples(run, model, task))
    plan.arms = plan.ask(lambda: plan_arms(settings, run.arms, train_rows, plan.lengths)) or ()
    if model is None:
        return
    measured = [arm for arm in plan.arms if arm.name in plan.lengths]
    plan.precision = run.expected_precision
    plan.workers = plan.ask(lambda: plan_workers(settings, model.path, plan.precision, measured, plan.lengths)) or ()
    plan.engines = plan.ask(lambda: plan_engines(settings, model.path, plan.precision)) or ()
    plan.errors += check_gpus(settings, plan.workers, plan.engines)


def _measure_rows(plan: Plan, run: PlannedRun, examples: TrainingExamples) -> None:
    """Tokenize the task's rows for each arm, and take the sample."""
    for name, arm in run.arms.items():
        config = plan.ask(lambda arm=arm: run.settings.resolve_finetune(arm))
        rows = None if config is None else plan.ask(lambda arm=arm, config=config: examples.tokenize(arm.wordings, config))
        if config is None or rows is None:
            continue
        lengths = plan.ask(lambda arm=arm, c=config, r=rows: measure_lengths(examples.tokenizer, r, run.settings, arm.pool, c))
        if lengths is not None:
            plan.lengths[name] = lengths
        if not plan.sample and arm.rows == "mixture":
            plan.sample = show_mask(examples.tokenizer, rows[0])


def _check_finished_pools(run: PlannedRun) -> None:
    """Refuse a pool that is finished and too small.

    Raises:
        UserError: the pool's size, the top reasons of rejection, and what would fill it.
    """
    try:
        with building_nothing():
            run.check_pools(run.arms)
    except UnfinishedError:
        pass
