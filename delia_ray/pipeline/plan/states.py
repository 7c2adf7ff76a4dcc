"""Which steps of ``run`` are finished, and whether what is finished is what the settings ask for."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Literal

from delia_ray.core.artifacts import MANIFEST, StaleArtifactError
from delia_ray.core.building import UnfinishedError, building_nothing
from delia_ray.core.errors import UserError
from delia_ray.core.layout import DEFAULT_POOL
from delia_ray.pipeline.plan.planned_run import PlannedRun
from delia_ray.pipeline.steps import STEPS, Step


@dataclass(frozen=True)
class StepState:
    """One artifact of a run."""

    role: str
    """Its path below the run."""
    state: Literal["finished", "to do", "stale", "to do again", "unknown"]
    """stale: it was made from another request, and the run would stop. to do again: it would be replaced. unknown: it is finished, and
    what it was made from is not, or is stale, so that they cannot be compared."""
    error: str = ""
    """What a run would say of a stale one."""


def list_states(run: PlannedRun, pools: Collection[str]) -> list[StepState]:
    """List the artifacts that ``run`` builds for these settings, in order.

    Args:
        pools: the pools that arms take rows of.
    """
    return [_find_state(run, step, name) for step, name in _iter_planned(run, pools)]


def _iter_planned(run: PlannedRun, pools: Collection[str]) -> Iterator[tuple[Step, str]]:
    """Yield the steps of ``run``, and the name in each."""
    for step in STEPS:
        if step.in_run and (step.role != "tokens" or run.settings.probe.tokens is not None):
            yield from ((step, name) for name in step.names(run) if _is_needed(run, step, name, pools))


def _is_needed(run: PlannedRun, step: Step, name: str, pools: Collection[str]) -> bool:
    """Whether the settings lead to an artifact of the step."""
    match step.role.rpartition("/")[2]:
        case "original":
            return any(arm.wordings == "original" for arm in run.arms.values())
        case "clean" if run.settings.clean_config is None:
            return False
        case "queries" | "diverse" | "clean":
            return (name or DEFAULT_POOL) in pools
        case "diversity":
            return DEFAULT_POOL in pools
        case _:
            return True


def _find_state(run: PlannedRun, step: Step, name: str) -> StepState:
    """Compare an artifact with what the step would build now."""
    role = step.role.format_map(_Name(name))
    path = run.layout.artifact(role)
    if not (path / MANIFEST).exists():
        return StepState(role, "to do")
    try:
        with building_nothing():
            step.build(run, [name])
    except StaleArtifactError as error:
        return StepState(role, "stale", str(error)) if error.path == path else StepState(role, "unknown")
    except UnfinishedError as error:
        return StepState(role, "to do again" if str(error).startswith(str(path)) else "unknown")
    except UserError:
        return StepState(role, "unknown")
    return StepState(role, "finished")


class _Name(dict[str, str]):
    """The name in a role, whatever it is called there."""

    def __init__(self, name: str):
        super().__init__()
        self._name = name

    def __missing__(self, key: str) -> str:
        return self._name
