"""From a task to finished models. Reads like the recipe it is: each step takes finished artifacts and gives one."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

from delia_ray.artifacts import MANIFEST, Artifact
from delia_ray.cards import model_card
from delia_ray.evaluation.client import answer_conversations
from delia_ray.evaluation.task_metrics import keeps_target
from delia_ray.mixing.clean import clean, embedding_for
from delia_ray.mixing.stage import mix, task_rows_of
from delia_ray.models import ModelFolder, adopt_model, chat_format, tokenizer_of
from delia_ray.progress import Line
from delia_ray.records import Message
from delia_ray.rewriting.config import NoRewrite
from delia_ray.rewriting.engine import completer
from delia_ray.rewriting.forbidden import forbidden_words
from delia_ray.rewriting.stage import rewrite
from delia_ray.rewriting.targets import distil
from delia_ray.run_context import RunContext
from delia_ray.serving.catalogue import BASE
from delia_ray.settings import POOL, Arm
from delia_ray.synthesis.answering import answer
from delia_ray.synthesis.asking import ask
from delia_ray.synthesis.site import Site
from delia_ray.tasks.stage import prepare_task
from delia_ray.training.export import ExportRequest, export
from delia_ray.training.stage import Request, finetune
from delia_ray.training.start import prepare_start


@dataclass
class Chain(RunContext):
    """One run: what is finished, and how the rest is built.

    Each property or method returns its artifact and builds what it needs first. Nothing is built twice, and a run whose
    artifacts are all finished starts neither Ray nor an engine.
    """

    _pools: dict[str, Artifact | None] = field(default_factory=dict[str, Artifact | None])

    @cached_property
    def arms(self) -> dict[str, Arm]:
        """The arms that are trained, in order."""
        return {name: arm for name, arm in self.settings.arms.items() if arm is not None}

    @cached_property
    def tokens(self) -> tuple[str, ...]:
        """The task's new tokens."""
        return () if self.settings.task.token is None else (self.settings.task.token,)

    @cached_property
    def model(self) -> ModelFolder:
        """The model to tune, found, and its chat template tried."""
        with self.progress.stage("model") as line:
            adopted = adopt_model(self.settings.model, template_arguments=self.settings.chat_template_kwargs)
            found = chat_format(tokenizer_of(adopted), self.settings.model)
            line.say(f"{self.settings.model}, {found.summary()}")
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
    def original(self) -> Artifact:
        """The task's rows under its own wording."""
        task = self.task
        with self.progress.stage("original"):
            return rewrite(NoRewrite(), task, None, (), completer(NoRewrite(), str), self._path("original"), self.provenance)

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
        """The usual pool of diverse rows; null where no arm takes any of it."""
        return self._drawn(POOL)

    def _drawn(self, pool: str) -> Artifact | None:
        """A pool as the engine gave it."""
        wanted = max((self._diverse_rows(arm) for arm in self.arms.values() if arm.pool == pool), default=0)
        if wanted == 0:
            return None
        config, model, named = self.settings.synthesize_for(pool, wanted), self.model, "" if pool == POOL else f" {pool}"
        with self.progress.stage(f"queries{named}") as line:
            queries = ask(config, self._site(model, line), self._in_pool(pool, "queries"), run=self._path())
        with self.progress.stage(f"answers{named}") as line:
            return answer(config, queries, self._site(model, line), self._in_pool(pool, "diverse"))

    def _diverse_rows(self, arm: Arm) -> int:
        config = self.settings.mix_for(arm)
        return int(config.ratio * task_rows_of(config, self.task))

    def _in_pool(self, pool: str, role: str) -> Path:
        return self._path(role) if pool == POOL else self._path("pools", pool, role)

    def pool(self, name: str) -> Artifact | None:
        """The diverse rows of a pool that may be trained on; null where no arm takes any."""
        if name not in self._pools:
            self._pools[name] = self._cleaned(name)
        return self._pools[name]

    def _cleaned(self, name: str) -> Artifact | None:
        diverse, config = self.diverse if name == POOL else self._drawn(name), self.settings.cleaning
        if diverse is None or config is None:
            return diverse
        embedding = embedding_for(config.deduplicate, self.model, self.settled_placement)
        with self.progress.stage("clean" if name == POOL else f"clean {name}"):
            return clean(config, diverse, self.task, embedding, self._connect, self._in_pool(name, "clean"), self.provenance)

    def task_rows(self, arm: Arm) -> Artifact:
        """The task's rows as ``arm`` reads them."""
        worded = self.rewritten if arm.wordings == "rewritten" else self.original
        return worded if arm.targets == "given" else self._distilled(arm.wordings, worded)

    def _distilled(self, wordings: str, worded: Artifact) -> Artifact:
        """The task's rows with the untrained model's own targets."""
        longest, at_once, start = self.settings.score.max_tokens, self.placement.engine.max_num_seqs, self.start

        def ask(rows: Sequence[list[Message]]) -> list[str]:
            return answer_conversations(self.endpoint({BASE: start}), BASE, rows, longest, at_once)

        with self.progress.stage("targets") as line:
            keeps, out = partial(keeps_target, self.settings.task), self._path("distilled", wordings)
            found = distil(worded, start, keeps, ask, longest, out, self.provenance)
            line.say(f"{found.manifest.counts['own']:g} of {found.manifest.counts['train']:g} in the model's own words")
            return found

    def mixed(self, arm: str) -> Artifact:
        """The training rows of ``arm``."""
        asked = self.arms[arm]
        rows, diverse = self.task_rows(asked), self.pool(asked.pool)
        with self.progress.stage(f"mix {arm}"):
            out = self._path("arms", arm, "mixed")
            return mix(self.settings.mix_for(asked), rows, diverse, self._connect, out, self.provenance)

    def checkpoint(self, arm: str) -> Artifact:
        """What ``arm`` learnt."""
        start, mixed, asked = self.start, self.mixed(arm), self.arms[arm]
        rows = task_rows_of(self.settings.mix_for(asked), self.task)
        config = self.settings.finetune_for(asked)
        if config.precision == "auto":
            config = config.model_copy(update={"precision": self.precision})
        request = Request(finetune=config, steps=self.settings.steps_of(asked, rows), new_tokens=self.tokens)
        with self.progress.stage(f"finetune {arm}") as line:
            out = self._path("arms", arm, "checkpoint")
            return finetune(request, start, mixed, self.placement.finetune, self._take_over, line, out, self.provenance)

    def exported(self, arm: str) -> Artifact:
        """The finished model of ``arm``."""
        if arm == BASE:
            return self.start
        checkpoint = self.checkpoint(arm)
        card = model_card(self.settings, arm, self.start, checkpoint)
        with self.progress.stage(f"export {arm}"):
            request, out = ExportRequest(new_tokens=self.tokens, dtype=self.precision), self._path("arms", arm, "model")
            at = (self.engine, self.placement.serve)
            return export(request, self.start, checkpoint, self.rewritten, *at, self._connect, card, out, self.provenance)

    def is_exported(self, arm: str) -> bool:
        """Whether the model of ``arm`` is finished."""
        return self._path("arms", arm, "model", MANIFEST).exists()

    def _site(self, model: ModelFolder, line: Line) -> Site:
        where, draws = self.placement, self.placement.draws or self._path(".draws")
        return Site(model, self.engine, where.synthesize, draws.resolve(), self._connect, line, self.provenance, where.price)
