"""The whole chain in order. Reads like the recipe it is: each step takes finished artifacts and gives one."""

from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from delia_ray.artifacts import MANIFEST, Adopted, Artifact, Provenance
from delia_ray.cards import model_card
from delia_ray.embedding.encoder import adopt_encoder
from delia_ray.evaluation.comparison import compare_all
from delia_ray.evaluation.stage import score
from delia_ray.mixing.clean import clean, embedding_for
from delia_ray.mixing.config import MixConfig
from delia_ray.mixing.stage import mix
from delia_ray.models import adopt_model, load_tokenizer
from delia_ray.placement import Placement
from delia_ray.preflight import check_usable
from delia_ray.progress import Line, Progress
from delia_ray.reporting.pool import render_pool
from delia_ray.reporting.stage import Comparison, report
from delia_ray.rewriting.engine import completer
from delia_ray.rewriting.forbidden import forbidden_words
from delia_ray.rewriting.stage import rewrite
from delia_ray.runtime import connect
from delia_ray.serving.catalogue import BASE
from delia_ray.serving.endpoint import open_endpoint
from delia_ray.settings import Arm, Settings
from delia_ray.synthesis.answering import answer
from delia_ray.synthesis.asking import ask
from delia_ray.synthesis.describing import describe
from delia_ray.synthesis.site import Site
from delia_ray.tasks.stage import prepare_task
from delia_ray.training.batches import steps_for
from delia_ray.training.export import ExportRequest, export
from delia_ray.training.stage import Request, finetune
from delia_ray.training.start import prepare_start
from delia_ray.training.tokens import check_chat_template

PLAIN = "it"


@dataclass
class Pipeline:
    """One run: its settings, what is finished, and the means to build the rest.

    Each property or method returns its artifact and builds what it needs first. Nothing is built twice, and a run whose
    artifacts are all finished starts neither Ray nor an engine.
    """

    settings: Settings
    progress: Progress
    provenance: Provenance
    _stack: ExitStack = field(default_factory=ExitStack)
    _url: str = ""
    _served: tuple[str, ...] = ()

    def __enter__(self) -> "Pipeline":
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def check(self, *, serves: bool) -> None:
        """Refuse what can be known to fail before the first artifact is written.

        Args:
            serves: whether the verb opens an endpoint.

        Raises:
            UserError: a row, a query, the model, the encoder or the port is not usable.
        """
        scored = [self._path("arms", name, "scores", MANIFEST) for name in (BASE, *self.arms)]
        check_usable(self.settings, self.model, serves=serves and not all(file.exists() for file in scored))

    @property
    def placement(self) -> Placement:
        return self.settings.placement

    @cached_property
    def arms(self) -> dict[str, Arm]:
        """The arms that are trained, in order."""
        return {name: arm for name, arm in self.settings.arms.items() if arm is not None}

    @cached_property
    def tokens(self) -> tuple[str, ...]:
        """The task's new tokens."""
        return () if self.settings.task.token is None else (self.settings.task.token,)

    @cached_property
    def model(self) -> Adopted:
        """The model to tune, found and checked."""
        with self.progress.stage("model") as line:
            line.say(self.settings.model)
            adopted = adopt_model(self.settings.model)
            check_chat_template(load_tokenizer(adopted.path), str(adopted.path))
            return adopted

    @cached_property
    def task(self) -> Artifact:
        """The task's rows in splits."""
        with self.progress.stage("task") as line:
            task = prepare_task(self.settings.task, self.settings.decontaminate, self._path("task"), self.provenance)
            if rejected := task.manifest.counts["rejected"]:
                line.say(f"{rejected:g} training rows left out, too close to what is scored: {task.data / 'rejects.parquet'}")
            return task

    @cached_property
    def start(self) -> Artifact:
        """The model with the new tokens, untrained."""
        model, task = self.model, self.settings.task
        with self.progress.stage("start"):
            return prepare_start(model, self.tokens, task.token_init, task.vocabulary_multiple, self._path("start"), self.provenance)

    @cached_property
    def rewritten(self) -> Artifact:
        """The task's rows under many wordings."""
        task = self.task
        with self.progress.stage("rewrite"):
            forbidden = forbidden_words(self.settings.task)
            complete = completer(self.settings.rewriting, lambda: self.endpoint({BASE: self.start}))
            token, out = self.settings.task.token, self._path("rewritten")
            return rewrite(self.settings.rewriting, task, token, forbidden, complete, out, self.provenance)

    @cached_property
    def diverse(self) -> Artifact | None:
        """The pool of diverse rows; null where no arm takes any."""
        ratio = max(self.settings.ratio_of(arm) for arm in self.arms.values())
        if ratio == 0:
            return None
        wanted = int(ratio * int(self.task.manifest.counts["train"]))
        config, model = self.settings.synthesize_for(wanted), self.model
        with self.progress.stage("queries") as line:
            queries = ask(config, self._site(model, line), self._path("queries"))
        with self.progress.stage("answers") as line:
            return answer(config, queries, self._site(model, line), self._path("diverse"))

    @cached_property
    def diversity(self) -> Artifact | None:
        """How diverse the pool is, in numbers and on a page; null where there is none."""
        config, diverse = self.settings.synthesize, self.diverse
        if diverse is None or not diverse.manifest.counts["rows"]:
            return None
        encoder = adopt_encoder(config.embeddings, self.model, "synthesize.embeddings")
        with self.progress.stage("diversity") as line:
            return describe(config, diverse, encoder, render_pool, self._site(self.model, line), self._path("diversity"))

    @cached_property
    def pool(self) -> Artifact | None:
        """The diverse rows that may be trained on; null where no arm takes any."""
        diverse, config = self.diverse, self.settings.cleaning
        if diverse is None or config is None:
            return diverse
        embedding = embedding_for(config.deduplicate, self.model, self.placement)
        with self.progress.stage("clean"):
            return clean(config, diverse, self.task, embedding, self._connect, self._path("clean"), self.provenance)

    def mixed(self, arm: str) -> Artifact:
        """The training rows of ``arm``."""
        rewritten, diverse = self.rewritten, self.pool
        config = MixConfig(ratio=self.settings.ratio_of(self.arms[arm]), seed=self.settings.mix.seed)
        with self.progress.stage(f"mix {arm}"):
            return mix(config, rewritten, diverse, self._connect, self._path("arms", arm, "mixed"), self.provenance)

    def checkpoint(self, arm: str) -> Artifact:
        """What ``arm`` learnt."""
        start, mixed = self.start, self.mixed(arm)
        config = self.settings.finetune
        rows = int(self.task.manifest.counts["train"])
        request = Request(
            finetune=config.model_copy(update={"learning_rate": self.arms[arm].learning_rate or config.learning_rate}),
            steps=steps_for(rows, self.settings.mix.ratio, config.epochs, config.batch_rows),
            new_tokens=self.tokens,
        )
        with self.progress.stage(f"finetune {arm}") as line:
            out = self._path("arms", arm, "checkpoint")
            return finetune(request, start, mixed, self.placement.finetune, self._connect, line, out, self.provenance)

    def exported(self, arm: str) -> Artifact:
        """The finished model of ``arm``."""
        if arm == BASE:
            return self.start
        checkpoint = self.checkpoint(arm)
        card = model_card(self.settings, arm, self.start, checkpoint)
        with self.progress.stage(f"export {arm}"):
            request, at, out = ExportRequest(new_tokens=self.tokens), self.placement, self._path("arms", arm, "model")
            return export(request, self.start, checkpoint, self.rewritten, at.engine, at.serve, self._connect, card, out, self.provenance)

    def models(self) -> dict[str, Artifact]:
        """Every model of the run, the untrained one first."""
        return {name: self.exported(name) for name in (BASE, *self.arms)}

    def scores(self) -> dict[str, Artifact]:
        """The scores of the base model and of every arm, asked over one live endpoint."""
        models = self.models()
        found: dict[str, Artifact] = {}
        for name, model in models.items():
            with self.progress.stage(f"score {name}") as line:
                found[name] = score(
                    self.settings.score,
                    self.settings.task,
                    name,
                    model,
                    self.start,
                    found.get(BASE),
                    self.rewritten,
                    lambda: self.endpoint(models),
                    self._connect,
                    line,
                    self.placement.engine,
                    self._path("arms", name, "scores"),
                    self.provenance,
                )
        return found

    def report(self) -> Artifact:
        """The page and ``report.json``."""
        diversity, scores = self.diversity, self.scores()
        with self.progress.stage("report"):
            comparison = Comparison.model_validate(compare_all(scores, (PLAIN, BASE), self.settings.score))
            return report(self.settings, scores, comparison, diversity, self._path(), self._path("report"), self.provenance)

    def _path(self, *role: str) -> Path:
        """Absolute, since workers have working folders of their own."""
        return self.settings.run.path.resolve().joinpath(*role)

    def _connect(self) -> None:
        connect(self.placement.cluster)

    def _site(self, model: Adopted, line: Line) -> Site:
        where, draws = self.placement, self.placement.draws or self._path(".draws")
        return Site(model, where.engine, where.synthesize, draws.resolve(), self._connect, line, self.provenance, where.price)

    def endpoint(self, models: dict[str, Artifact]) -> str:
        """The URL of an endpoint over ``models``; one over others is closed first. The last one closes with the run."""
        if self._served != tuple(models):
            self._stack.close()
            self._connect()
            endpoint = open_endpoint(models, self.placement.serve, self.placement.engine, self.settings.max_model_len)
            self._url, self._served = self._stack.enter_context(endpoint), tuple(models)
        return self._url
