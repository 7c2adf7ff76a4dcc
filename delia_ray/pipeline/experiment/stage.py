"""``delia experiment``: the whole comparison as one resumable command."""

from collections.abc import Sequence
from typing import NamedTuple

from delia_ray.core.artifacts import Artifact, Counts, Provenance, Workspace, build_once
from delia_ray.core.config import Config
from delia_ray.core.errors import UserError
from delia_ray.core.layout import BASE, INSTRUCTED, RunLayout
from delia_ray.core.progress import Progress
from delia_ray.evaluation.config import Margins, ScoreConfig
from delia_ray.evaluation.metrics.definitions import define_metrics
from delia_ray.evaluation.metrics.task_metrics import get_metric_names
from delia_ray.evaluation.statistics.grid import GridPoint, ItemDifferences, ModelScores
from delia_ray.evaluation.stored import compare_scores, read_scores, score_constants
from delia_ray.pipeline.experiment.cells import (
    Cell,
    Variant,
    build_arms,
    choose_best_rate,
    list_tried_cells,
    list_variants,
    repeat_over_seeds,
)
from delia_ray.pipeline.experiment.config import ExperimentSettings, Grid
from delia_ray.pipeline.experiment.training import train_all
from delia_ray.pipeline.run import Run
from delia_ray.reporting.examples import MAX_EXAMPLES, select_examples
from delia_ray.reporting.experiment_schema import build_experiment_report
from delia_ray.tasks.config import FormatTask

STAGE = "experiment/4"
EXPERIMENT_KIND = "experiment/3"


class ExperimentRequest(Config):
    """What was compared."""

    run: str
    grid: Grid
    margins: Margins


class Scored(NamedTuple):
    """A model of the grid."""

    name: str
    """Of its folder; cells that ask for the same share it."""
    row: ModelScores
    scores: Artifact


class Experiment:
    """A run over every cell of a grid."""

    def __init__(self, settings: ExperimentSettings, progress: Progress, provenance: Provenance):
        self._settings, self._progress, self._provenance = settings, progress, provenance

    def scored(self) -> list[Scored]:
        """Every model on the test split, the untrained one first.

        Raises:
            UserError: something of the run cannot be built.
        """
        self._check_choice()
        with Run(self._settings, self._progress, self._provenance) as run:
            run.check(serves=True)
            counts = run.task.manifest.counts
            self._check_dev(int(counts["dev"]))
            planned = list_variants(self._settings, int(counts["train"]))
        chosen = self._chosen(planned)
        cells = repeat_over_seeds(self._settings, chosen)
        with self._trained(cells, "every seed") as run:
            scores = run.scores()
            meaning = self._settings.meaning
            instructed = None if meaning is None else run.instructed_scores(meaning)
        untrained = {BASE: scores[BASE], **({INSTRUCTED: instructed} if instructed else {})}
        trained = (Scored(name, _row(cell, scores[name]), scores[name]) for cell, name in self._names(cells).items())
        return [*(Scored(arm, _untrained(arm, each), each) for arm, each in untrained.items()), *trained]

    def _chosen(self, planned: Sequence[Variant]) -> dict[Variant, float]:
        """The learning rate of each variant, by its score on dev."""
        cells = list_tried_cells(self._settings, list(planned))
        if len(cells) == len(planned):
            return {cell.variant: cell.learning_rate for cell in cells}
        metric = self._choose_by
        with self._trained(cells, "learning rates") as run:
            scores = run.dev_scores()
        values = {cell: read_scores(scores[name])[metric].value for cell, name in self._names(cells).items()}
        return {
            each: choose_best_rate({cell.learning_rate: value for cell, value in values.items() if cell.variant == each})
            for each in planned
        }

    def _check_choice(self) -> None:
        """Refuse a metric to choose learning rates by that is none of the task's.

        Raises:
            UserError: naming those that are.
        """
        known = define_metrics(get_metric_names(self._settings.task))
        if len(self._settings.experiment.learning_rates) > 1 and self._choose_by not in known:
            raise UserError(f"experiment.choose: {self._choose_by!r} is not measured for this task; choose among {', '.join(known)}")

    def _check_dev(self, dev_rows: int) -> None:
        """Refuse, before anything is trained, to choose among learning rates without rows to choose by.

        Raises:
            UserError: the task has no dev rows.
        """
        if len(self._settings.experiment.learning_rates) > 1 and not dev_rows:
            raise UserError("experiment.learning_rates: chosen on dev, and the task has no dev rows; give it some, or name one rate")

    @property
    def _choose_by(self) -> str:
        task = self._settings.task
        return self._settings.experiment.choose or ("selectivity" if isinstance(task, FormatTask) else get_metric_names(task)[0])

    def _names(self, cells: Sequence[Cell]) -> dict[Cell, str]:
        return {cell: name for cell, (name, _) in build_arms(self._settings, cells).items()}

    def _trained(self, cells: Sequence[Cell], what: str) -> Run:
        """Return a run whose arms are ``cells``, all trained."""
        settings = self._settings.model_copy(update={"arms": dict(build_arms(self._settings, cells).values())})
        run = Run(settings, self._progress, self._provenance)
        missing = [name for name in run.arms if not run.is_finished(name, "model")]
        if missing:
            with run:  # a rewriting model's endpoint is closed before anything is trained
                run.prepare()
            with self._progress.stage(f"train: {what}") as line:
                train_all(settings, missing, line, self._provenance)
        return run


def run_experiment(run: Run) -> Artifact:
    """Build ``experiment`` with the settings of ``run``.

    Raises:
        UserError: something of the run cannot be built.
    """
    assert isinstance(run.settings, ExperimentSettings), "the verb reads an experiment's settings"
    return experiment(run.settings, run.progress, run.provenance)


def experiment(settings: ExperimentSettings, progress: Progress, provenance: Provenance) -> Artifact:
    """``experiment.json`` over every cell of the grid; what is finished is reused.

    Raises:
        UserError: something of the run cannot be built.
    """
    models = Experiment(settings, progress, provenance).scored()
    rows, inputs = [each.row for each in models], {each.name: each.scores for each in models}
    first: dict[str, Scored] = {}
    for each in models:
        first.setdefault(each.row.arm, each)
    rival = first[settings.experiment.rival].row.grid_point

    def write(workspace: Workspace) -> Counts:
        examples = select_examples({arm: each.scores for arm, each in first.items()}, settings.task.kind, MAX_EXAMPLES)
        by_items, floors = _by_items(models, rival, settings.score), score_constants(models[0].scores)
        found = build_experiment_report(rows, rival, by_items, floors, examples, settings.model_dump(mode="json"), provenance)
        (workspace.data / "experiment.json").write_text(found.model_dump_json(indent=1) + "\n", encoding="utf-8")
        return {"models": len(rows)}

    out = RunLayout(settings.run.path.resolve()).artifact("experiment")
    request = ExperimentRequest(run=settings.run.name, grid=settings.experiment, margins=settings.score.margins)
    with progress.stage("report"):
        return build_once(out, stage=STAGE, kind=EXPERIMENT_KIND, request=request, inputs=inputs, provenance=provenance, write=write)


def _by_items(models: Sequence[Scored], rival: GridPoint, config: ScoreConfig) -> ItemDifferences:
    """How each model differs from the rival's of the same seed, over the items; an untrained one from the rival's of every seed."""
    rivals = {each.row.seed: each.scores for each in models if each.row.grid_point == rival}
    return {
        (each.row.grid_point, seed): compare_scores(each.scores, scores, config)
        for each in models
        if each.row.grid_point != rival
        for seed, scores in rivals.items()
        if each.row.seed in (None, seed)
    }


def _row(cell: Cell, scores: Artifact) -> ModelScores:
    of = cell.variant
    found = read_scores(scores)
    return ModelScores(
        arm=of.arm,
        rho=of.ratio,
        n=of.task_rows,
        seed=cell.seed,
        learning_rate=cell.learning_rate,
        metrics={name: interval.value for name, interval in found.items()},
        items=found,
    )


def _untrained(arm: str, scores: Artifact) -> ModelScores:
    found = read_scores(scores)
    values = {name: interval.value for name, interval in found.items()}
    return ModelScores(arm=arm, rho=None, n=None, seed=None, learning_rate=None, metrics=values, items=found)
