"""The table of steps: which artifacts a run has, how each is built, and which verb and page belong to it.

The command line, ``delia reproduce``, the pages and the record of a run read this table; a new step is a new line of it.
Importing it loads no library that takes seconds: functions that need one are named, and imported when they are called.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from delia_ray.core.layout import BASE, DEFAULT_POOL, INSTRUCTED
from delia_ray.settings import Settings

if TYPE_CHECKING:
    from delia_ray.core.artifacts import Artifact
    from delia_ray.pipeline.run import Run

Artifacts = Mapping[str, "Artifact"]
Build = Callable[["Run", Sequence[str]], Artifacts]
"""Builds the artifacts of the given names, and what they need; the name is empty where a step has one artifact."""
_NAME = re.compile(r"\{\w+\}")


@dataclass(frozen=True)
class Step:
    """One artifact of a run, or one for each arm, pool or kind of wording."""

    role: str
    """Path of the artifact below the run. ``{arm}``, ``{pool}`` or ``{wordings}`` stands for a name."""
    build: Build
    verb: str = ""
    """The verb that builds it; empty: only other steps ask for it."""
    help: str = ""
    """What the verb does, in a line."""
    serves: bool = False
    """Whether it opens an endpoint, so that the port must be free."""
    trains: bool = False
    """Whether it needs trained arms."""
    with_base: bool = False
    """Whether the base model has one, too, beside the arms."""
    is_deterministic: bool = False
    """Whether its rows follow from its request and inputs alone, so that building it again must give the same rows."""
    in_run: bool = True
    """Whether ``run`` builds it, if the settings lead to one."""
    is_experiment: bool = False
    """Whether it is made of many runs, each of which checks itself."""
    outside_inputs: str = ""
    """``module:function``: the inputs that no step made. In: the settings, and the name in the role (empty where it has none). Out: role of
    the input -> file or model, by the hash of its content as it is now."""
    page: str = ""
    """``module:function``: the finished artifact in, file name -> text out; the page itself is ``<role>.html``. Only for a step of one
    artifact, whose role has no name in it."""
    summary: str = ""
    """``module:function``: what the verb prints at its end (``cli/summary.py``)."""

    def match(self, role: str) -> str | None:
        """The name in ``role`` (empty where the step has none); None where ``role`` is another step's."""
        found = re.fullmatch("([^/]+)".join(map(re.escape, _NAME.split(self.role))), role)
        return None if found is None else "".join(found.groups())

    def names(self, run: "Run") -> list[str]:
        """The names that a run has it for."""
        if "{arm}" in self.role:
            return [BASE, *run.arms] if self.with_base else list(run.arms)
        if "{pool}" in self.role:
            return list(run.settings.pools)
        if "{wordings}" in self.role:
            rephrased = [arm for arm in run.arms.values() if arm.targets == "own"]  # arms whose targets the model rewrote itself
            return list(dict.fromkeys(arm.wordings for arm in rephrased))
        return [""]

    def is_instructed(self, name: str) -> bool:
        """Whether ``name`` is the untuned model that is given the token's meaning in words; it is scored but is no arm."""
        return self.role == "arms/{arm}/scores" and name == INSTRUCTED


def load(reference: str) -> Any:
    """The function that ``module:function`` names."""
    return resolve_name(reference)


def find_step(role: str) -> tuple[Step, str] | None:
    """The step whose artifact lies at ``role``, and the name in it."""
    matches = ((step, step.match(role)) for step in STEPS)
    return next(((step, name) for step, name in matches if name is not None), None)


def steps_of(verb: str, settings: Settings) -> list[Step]:
    """The steps that a verb builds, in order; ``run`` builds the report, and the probe of the token where one is asked for."""
    if verb != "run":
        return [step for step in STEPS if step.verb == verb]
    roles = ("report",) if settings.probe.tokens is None else ("tokens", "report")  # the probe before an endpoint takes the machine
    return [step for role in roles for step in STEPS if step.role == role]


def _one(build: "Callable[[Run], Artifact | None]") -> Build:
    def build_one(run: "Run", _names: Sequence[str]) -> Artifacts:
        artifact = build(run)
        return {} if artifact is None else {"": artifact}

    return build_one


def _each(build: "Callable[[Run, str], Artifact | None]") -> Build:
    def build_each(run: "Run", names: Sequence[str]) -> Artifacts:
        built = {name: build(run, name) for name in names}
        return {name: artifact for name, artifact in built.items() if artifact is not None}

    return build_each


def _each_arm(build: "Callable[[Run, str], Artifact]") -> Build:
    """As ``_each``, once every pool is known to be large enough."""

    def build_arms(run: "Run", names: Sequence[str]) -> Artifacts:
        run.check_pools(names)
        return {name: build(run, name) for name in names}

    return build_arms


_INPUTS = "delia_ray.pipeline.outside_inputs"
_PAGES = "delia_ray.reporting.pages"
_SUMMARIES = "delia_ray.reporting.summary"
STEPS = (
    Step("task", _one(lambda run: run.task), is_deterministic=True, outside_inputs=f"{_INPUTS}:task_files"),
    Step("base", _one(lambda run: run.base), outside_inputs=f"{_INPUTS}:model"),
    Step("original", _one(lambda run: run.original), is_deterministic=True),
    Step(
        "rewritten",
        _one(lambda run: run.rewritten),
        verb="rewrite",
        help="the task's rows under many wordings of its instruction",
        is_deterministic=True,
    ),
    Step("distilled/{wordings}", _each(lambda run, wordings: run.distilled(wordings))),
    Step("queries", _one(lambda run: run.queries(DEFAULT_POOL)), outside_inputs=f"{_INPUTS}:queries"),
    Step("diverse", _one(lambda run: run.diverse(DEFAULT_POOL))),
    Step("clean", _one(lambda run: run.clean(DEFAULT_POOL))),
    Step("pools/{pool}/queries", _each(lambda run, pool: run.queries(pool)), outside_inputs=f"{_INPUTS}:queries"),
    Step("pools/{pool}/diverse", _each(lambda run, pool: run.diverse(pool))),
    Step("pools/{pool}/clean", _each(lambda run, pool: run.clean(pool))),
    Step(
        "diversity",
        _one(lambda run: run.diversity),
        verb="synthesize",
        help="diverse queries, the model's own answers, and how diverse they are",
        page=f"{_PAGES}.diversity_page:render_diversity",
    ),
    Step(
        "arms/{arm}/mixed",
        _each_arm(lambda run, arm: run.mixed(arm)),
        verb="mix",
        help="the training rows of every arm",
        is_deterministic=True,
    ),
    Step(
        "arms/{arm}/checkpoint",
        _each_arm(lambda run, arm: run.checkpoint(arm)),
        verb="finetune",
        trains=True,
        help="train every arm",
        summary=f"{_SUMMARIES}:summarize_checkpoints",
    ),
    Step(
        "arms/{arm}/model",
        _each_arm(lambda run, arm: run.model_of(arm)),
        verb="export",
        trains=True,
        help="finished models, checked in transformers and in vLLM",
        summary=f"{_SUMMARIES}:summarize_models",
    ),
    Step(
        "arms/{arm}/scores",
        lambda run, arms: run.scores(*arms),
        verb="score",
        help="ask every finished model over a live endpoint",
        serves=True,
        with_base=True,
        outside_inputs=f"{_INPUTS}:metric_files",
    ),
    Step(
        "arms/{arm}/dev_scores",
        lambda run, arms: run.dev_scores(*arms),
        serves=True,
        with_base=True,
        in_run=False,
        outside_inputs=f"{_INPUTS}:metric_files",
    ),
    Step(
        "arms/{arm}/lm_eval",
        lambda run, arms: run.lm_eval(*arms),
        serves=True,
        with_base=True,
        in_run=False,
        outside_inputs=f"{_INPUTS}:lm_eval_tasks",
    ),
    Step(
        "lm_eval_changes",
        _one(lambda run: run.lm_eval_changes()),
        verb="lm-eval",
        help="tasks of lm-eval, before tuning and after it, over a live endpoint",
        serves=True,
        in_run=False,
        summary=f"{_SUMMARIES}:summarize_lm_eval",
    ),
    Step("gradients", _one(lambda run: run.gradients()), trains=True, in_run=False, outside_inputs=f"{_INPUTS}:foreign_answers"),
    Step(
        "probe",
        _one(lambda run: run.probe()),
        verb="probe gradients",
        trains=True,
        help="the method's predictions, measured on the run's models",
        in_run=False,
        page=f"{_PAGES}.probe_page:render_probe",
    ),
    Step(
        "tokens",
        _one(lambda run: run.token_probe()),
        verb="probe tokens",
        trains=True,
        help="what the new token has come to mean to each model",
        page=f"{_PAGES}.tokens_page:render_tokens",
    ),
    Step(
        "report",
        _one(lambda run: run.report()),
        verb="report",
        help="compare the scores: report.json, its page, and a table",
        serves=True,
        page=f"{_PAGES}.report_page:render_report",
        summary=f"{_SUMMARIES}:summarize_report",
    ),
    Step(
        "experiment",
        _one(lambda run: load("delia_ray.pipeline.experiment.stage:run_experiment")(run)),
        verb="experiment",
        help="every arm at every ratio, size and seed of `experiment`, and one page over them",
        serves=True,
        in_run=False,
        is_experiment=True,
        page=f"{_PAGES}.experiment_page:render_experiment",
    ),
)
