"""The steps from a task to finished models, each from finished artifacts to one artifact."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial

from delia_ray.core.artifacts import MANIFEST, Artifact
from delia_ray.core.layout import BASE, DEFAULT_POOL
from delia_ray.core.progress import ProgressLine
from delia_ray.core.records import Message
from delia_ray.core.storage.paths import to_uri
from delia_ray.evaluation.client import Asking, answer_conversations
from delia_ray.evaluation.metrics.task_metrics import is_equivalent_target
from delia_ray.mixing.clean_stage import clean_pool, make_embedding_context
from delia_ray.mixing.stage import count_task_rows, mix
from delia_ray.models import ModelFolder, adopt_model, detect_chat_format, get_tokenizer, share_model
from delia_ray.pipeline.run_context import RunContext
from delia_ray.reporting.model_card import render_model_card
from delia_ray.rewriting.config import NoRewrite
from delia_ray.rewriting.engine import make_completer
from delia_ray.rewriting.forbidden import list_forbidden_words
from delia_ray.rewriting.self_distillation import distill_targets
from delia_ray.rewriting.stage import rewrite
from delia_ray.settings import Arm
from delia_ray.synthesis.answers_stage import generate_answers
from delia_ray.synthesis.context import GenerationContext
from delia_ray.synthesis.queries_stage import generate_queries
from delia_ray.tasks.stage import prepare_task
from delia_ray.training.base_model import prepare_base
from delia_ray.training.export.forms import ExportRequest
from delia_ray.training.export.stage import export
from delia_ray.training.stage import FinetuneRequest, finetune


@dataclass
class Chain(RunContext):
    """The artifacts of a run up to its models.

    Each property or method returns its artifact and builds what it needs first. Nothing is built twice, and a run whose
    artifacts are all finished starts neither Ray nor an engine.
    """

    _cleaned: dict[str, Artifact | None] = field(default_factory=dict[str, Artifact | None])
    """Cleaned pools by name."""
    _diverse: dict[str, Artifact | None] = field(default_factory=dict[str, Artifact | None])
    """Pools as they were generated, by name."""

    @cached_property
    def arms(self) -> dict[str, Arm]:
        """The arms to train, in order."""
        return {name: arm for name, arm in self.settings.arms.items() if arm is not None}

    @cached_property
    def tokens(self) -> tuple[str, ...]:
        """The task's new tokens."""
        return () if self.settings.task.token is None else (self.settings.task.token,)

    @cached_property
    def model(self) -> ModelFolder:
        """The folder of the model to tune, where every node sees it."""
        return share_model(self.local_model, self.layout.root.parent) if self.uses_cluster else self.local_model

    @cached_property
    def local_model(self) -> ModelFolder:
        """The folder of the model to tune on this machine. Its chat template is checked, and what it supports is shown."""
        with self.progress.stage("model") as line:
            model = adopt_model(self.settings.model, template_arguments=self.settings.chat_template_kwargs)
            chat_format = detect_chat_format(get_tokenizer(model), self.settings.model)
            line.set_status(f"{self.settings.model}, {chat_format.summarize()}")
            return model

    @cached_property
    def task(self) -> Artifact:
        """The task's items in splits."""
        with self.progress.stage("task") as line:
            task = prepare_task(self.settings.task, self.settings.decontaminate, self.path("task"), self.provenance)
            if rejected := task.manifest.counts["rejected"]:
                file = to_uri(task.data / "rejects.parquet")
                line.set_status(f"{rejected:g} training rows left out, too close to what is scored: {file}")
            return task

    @cached_property
    def base(self) -> Artifact:
        """The base model: the model to tune with the task's new tokens."""
        model, task = self.model, self.settings.task
        with self.progress.stage("base"):
            new = (self.tokens, task.token_init, task.vocabulary_multiple)
            return prepare_base(model, *new, self.path("base"), self.provenance, self.run_on_worker)

    @cached_property
    def original(self) -> Artifact:
        """The task's items under its own wording."""
        task = self.task
        with self.progress.stage("original"):
            return rewrite(NoRewrite(), task, None, (), make_completer(NoRewrite(), str), self.path("original"), self.provenance)

    @cached_property
    def rewritten(self) -> Artifact:
        """The task's items under many wordings."""
        task, config = self.task, self.settings.rewrite_config
        with self.progress.stage("rewrite"):
            forbidden = list_forbidden_words(self.settings.task)
            complete = make_completer(config, lambda: self.endpoint({BASE: self.base}))
            return rewrite(config, task, self.settings.task.token, forbidden, complete, self.path("rewritten"), self.provenance)

    def queries(self, pool: str) -> Artifact | None:
        """The queries of a pool; None where no arm takes diverse rows of it."""
        rows = max((self._count_diverse_rows(arm) for arm in self.arms.values() if arm.pool == pool), default=0)
        if rows == 0:
            return None
        config, model = self.settings.resolve_synthesize(pool, rows), self.model
        with self.progress.stage(_name_stage("queries", pool)) as line:
            out = self.layout.of_pool(pool, "queries")
            return generate_queries(config, self._generation_context(model, line), out, run=self.layout.root)

    def diverse(self, pool: str) -> Artifact | None:
        """The model's answers to the queries of a pool; None where no arm takes diverse rows of it."""
        if pool not in self._diverse:
            self._diverse[pool] = self._generate(pool)
        return self._diverse[pool]

    def _generate(self, pool: str) -> Artifact | None:
        if (queries := self.queries(pool)) is None:
            return None
        rows = max(self._count_diverse_rows(arm) for arm in self.arms.values() if arm.pool == pool)
        config, model = self.settings.resolve_synthesize(pool, rows), self.model
        with self.progress.stage(_name_stage("answers", pool)) as line:
            return generate_answers(config, queries, self._generation_context(model, line), self.layout.of_pool(pool, "diverse"))

    def clean(self, pool: str) -> Artifact | None:
        """The diverse rows of a pool that may be trained on; None where no arm takes any."""
        if pool not in self._cleaned:
            self._cleaned[pool] = self._clean(pool)
        return self._cleaned[pool]

    def _clean(self, pool: str) -> Artifact | None:
        diverse, config = self.diverse(pool), self.settings.clean_config
        if diverse is None or config is None or not diverse.manifest.counts["rows"]:
            return diverse
        embedding = make_embedding_context(config.deduplicate, self.model, self.resolved_placement)
        with self.progress.stage(_name_stage("clean", pool)):
            return clean_pool(config, diverse, self.task, embedding, self.connect, self.layout.of_pool(pool, "clean"), self.provenance)

    def task_rows(self, arm: Arm) -> Artifact:
        """The task's items as ``arm`` is trained on them."""
        items = self.rewritten if arm.wordings == "rewritten" else self.original
        return items if arm.targets == "given" else self.distilled(arm.wordings)

    def distilled(self, wordings: str) -> Artifact:
        """The task's items with targets in the base model's own words."""
        items, base, max_tokens = self.rewritten if wordings == "rewritten" else self.original, self.base, self.settings.score.max_tokens

        def ask(conversations: Sequence[list[Message]]) -> list[str]:
            url = self.endpoint({BASE: base})
            asking = Asking(url, BASE, self.placement.engine.max_num_seqs, self.placement.serve.patience_s)
            return answer_conversations(asking, conversations, max_tokens)

        with self.progress.stage("targets") as line:
            is_kept, out = partial(is_equivalent_target, self.settings.task), self.path(f"distilled/{wordings}")
            targets = distill_targets(items, base, is_kept, ask, max_tokens, out, self.provenance)
            line.set_status(f"{targets.manifest.counts['own']:g} of {targets.manifest.counts['train']:g} in the model's own words")
            return targets

    def mixed(self, arm: str) -> Artifact:
        """The training rows of an arm."""
        config = self.arms[arm]
        rows, pool = self.task_rows(config), self.clean(config.pool)
        with self.progress.stage(f"mix {arm}", arm):
            out = self.layout.of_arm(arm, "mixed")
            return mix(self.settings.resolve_mix(config), rows, pool, self.connect, out, self.provenance)

    def checkpoint(self, arm: str) -> Artifact:
        """The trained adapter or weights of an arm."""
        base, mixed, config = self.base, self.mixed(arm), self.arms[arm]
        rows = count_task_rows(self.settings.resolve_mix(config), self.task)
        training = self.settings.resolve_finetune(config)
        if training.precision == "auto":
            training = training.model_copy(update={"precision": self.precision})
        request = FinetuneRequest(finetune=training, steps=self.settings.count_steps(config, rows), new_tokens=self.tokens)
        with self.progress.stage(f"finetune {arm}", arm) as line:
            out, workers = self.layout.of_arm(arm, "checkpoint"), self.placement.finetune
            return finetune(request, base, mixed, workers, self._connect_without_endpoint, line, out, self.provenance)

    def model_of(self, arm: str) -> Artifact:
        """The finished model of an arm, or the base model."""
        if arm == BASE:
            return self.base
        checkpoint = self.checkpoint(arm)
        card = render_model_card(self.settings, arm, self.base, checkpoint)
        with self.progress.stage(f"export {arm}", arm):
            request, out = ExportRequest(new_tokens=self.tokens, dtype=self.precision), self.layout.of_arm(arm, "model")
            placement = (self.engine, self.placement.serve)
            return export(request, self.base, checkpoint, self.rewritten, *placement, self.connect, card, out, self.provenance)

    def is_finished(self, arm: str, part: str) -> bool:
        """Whether ``part`` of an arm, such as its ``model``, is finished."""
        return (self.layout.of_arm(arm, part) / MANIFEST).exists()

    def _count_diverse_rows(self, arm: Arm) -> int:
        config = self.settings.resolve_mix(arm)
        return int(config.ratio * count_task_rows(config, self.task))

    def _generation_context(self, model: ModelFolder, line: ProgressLine) -> GenerationContext:
        placement, cache = self.placement, self.placement.cache or self.layout.cache
        return GenerationContext(
            model, self.engine, placement.synthesize, cache.resolve(), self.connect, line, self.provenance, placement.price
        )


def _name_stage(stage: str, pool: str) -> str:
    return stage if pool == DEFAULT_POOL else f"{stage} {pool}"
