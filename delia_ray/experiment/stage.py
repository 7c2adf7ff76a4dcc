"""``delia experiment``: the whole comparison as one resumable command."""

from collections.abc import Sequence
from typing import NamedTuple

from delia_ray.artifacts import Artifact, Counts, Provenance, Workspace, build_once
from delia_ray.config import Config
from delia_ray.errors import UserError
from delia_ray.evaluation.config import Margins, ScoreConfig
from delia_ray.evaluation.grid import ByItems, Place, Row
from delia_ray.evaluation.measures import measures
from delia_ray.evaluation.stored import compare_scores, constants, read_scores
from delia_ray.evaluation.task_metrics import metric_names
from delia_ray.experiment.cells import Cell, Variant, as_arms, best, repeated, tried, variants
from delia_ray.experiment.config import ExperimentSettings, Grid
from delia_ray.experiment.training import train_all
from delia_ray.pipeline import INSTRUCTED, Pipeline
from delia_ray.progress import Progress
from delia_ray.reporting.answers import EXAMPLES, side_by_side
from delia_ray.reporting.experiment_page import experiment_figures, render_experiment
from delia_ray.reporting.experiment_schema import findings
from delia_ray.serving.catalogue import BASE
from delia_ray.tasks.config import FormatTask

STAGE = "experiment/3"
EXPERIMENT_KIND = "experiment/2"


class ExperimentRequest(Config):
    """What was compared."""

    run: str
    grid: Grid
    margins: Margins


class Scored(NamedTuple):
    """A model of the grid."""

    name: str
    """Of its folder; cells that ask for the same share it."""
    row: Row
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
        with Pipeline(self._settings, self._progress, self._provenance) as pipeline:
            pipeline.check(serves=True)
            counts = pipeline.task.manifest.counts
            self._check_dev(int(counts["dev"]))
            planned = variants(self._settings, int(counts["train"]))
        chosen = self._chosen(planned)
        cells = repeated(self._settings, chosen)
        with self._trained(cells, "every seed") as pipeline:
            scores = pipeline.scores()
            meaning = self._settings.meaning
            instructed = None if meaning is None else pipeline.instructed(meaning)
        untrained = {BASE: scores[BASE], **({INSTRUCTED: instructed} if instructed else {})}
        trained = (Scored(name, _row(cell, scores[name]), scores[name]) for cell, name in self._names(cells).items())
        return [*(Scored(arm, _untrained(arm, each), each) for arm, each in untrained.items()), *trained]

    def _chosen(self, planned: Sequence[Variant]) -> dict[Variant, float]:
        """The learning rate of each variant, by its score on dev."""
        cells = tried(self._settings, list(planned))
        if len(cells) == len(planned):
            return {cell.variant: cell.learning_rate for cell in cells}
        metric = self._choose_by
        with self._trained(cells, "learning rates") as pipeline:
            scores = pipeline.dev_scores()
        values = {cell: read_scores(scores[name])[metric].value for cell, name in self._names(cells).items()}
        return {each: best({cell.learning_rate: value for cell, value in values.items() if cell.variant == each}) for each in planned}

    def _check_choice(self) -> None:
        """Refuse a metric to choose learning rates by that is none of the task's.

        Raises:
            UserError: naming those that are.
        """
        known = measures(metric_names(self._settings.task))
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
        return self._settings.experiment.choose or ("selectivity" if isinstance(task, FormatTask) else metric_names(task)[0])

    def _names(self, cells: Sequence[Cell]) -> dict[Cell, str]:
        return {cell: name for cell, (name, _) in as_arms(self._settings, cells).items()}

    def _trained(self, cells: Sequence[Cell], what: str) -> Pipeline:
        """A pipeline whose arms are ``cells``, all of them trained."""
        settings = self._settings.model_copy(update={"arms": dict(as_arms(self._settings, cells).values())})
        pipeline = Pipeline(settings, self._progress, self._provenance)
        missing = [name for name in pipeline.arms if not pipeline.is_exported(name)]
        if missing:
            with pipeline:  # a rewriting model's endpoint is closed before anything is trained
                pipeline.prepare()
            with self._progress.stage(f"train: {what}") as line:
                train_all(settings, missing, line, self._provenance)
        return pipeline


def experiment(settings: ExperimentSettings, progress: Progress, provenance: Provenance) -> Artifact:
    """``experiment.json``, its page and ``figures/``, over every cell of the grid; what is finished is reused.

    Raises:
        UserError: something of the run cannot be built.
    """
    models = Experiment(settings, progress, provenance).scored()
    rows, inputs = [each.row for each in models], {each.name: each.scores for each in models}
    first: dict[str, Scored] = {}
    for each in models:
        first.setdefault(each.row.arm, each)
    rival = first[settings.experiment.rival].row.place

    def write(workspace: Workspace) -> Counts:
        examples = side_by_side({arm: each.scores for arm, each in first.items()}, settings.task.kind, EXAMPLES)
        by_items, floors = _by_items(models, rival, settings.score), constants(models[0].scores)
        found = findings(rows, rival, by_items, floors, examples, settings.model_dump(mode="json"), provenance)
        (workspace.data / "experiment.json").write_text(found.model_dump_json(indent=1) + "\n", encoding="utf-8")
        (workspace.data / "index.html").write_text(render_experiment(found), encoding="utf-8")
        (workspace.data / "figures").mkdir()
        for name, drawing in experiment_figures(found).items():
            (workspace.data / "figures" / f"{name}.svg").write_text(drawing, encoding="utf-8")
        return {"models": len(rows)}

    out = settings.run.path.resolve() / "experiment"
    request = ExperimentRequest(run=settings.run.name, grid=settings.experiment, margins=settings.score.margins)
    with progress.stage("report"):
        return build_once(out, stage=STAGE, kind=EXPERIMENT_KIND, request=request, inputs=inputs, provenance=provenance, write=write)


def _by_items(models: Sequence[Scored], rival: Place, config: ScoreConfig) -> ByItems:
    """How each model differs from the rival's of the same seed, over the items; an untrained one from the rival's of every seed."""
    rivals = {each.row.seed: each.scores for each in models if each.row.place == rival}
    return {
        (each.row.place, seed): compare_scores(each.scores, scores, config)
        for each in models
        if each.row.place != rival
        for seed, scores in rivals.items()
        if each.row.seed in (None, seed)
    }


def _row(cell: Cell, scores: Artifact) -> Row:
    of = cell.variant
    found = read_scores(scores)
    return Row(
        arm=of.arm,
        rho=of.ratio,
        n=of.task_rows,
        seed=cell.seed,
        learning_rate=cell.learning_rate,
        metrics={name: interval.value for name, interval in found.items()},
        items=found,
    )


def _untrained(arm: str, scores: Artifact) -> Row:
    found = read_scores(scores)
    values = {name: interval.value for name, interval in found.items()}
    return Row(arm=arm, rho=None, n=None, seed=None, learning_rate=None, metrics=values, items=found)
