"""What is asked of finished models, and what is shown of it."""

from collections.abc import Iterable, Iterator
from functools import cached_property, partial
from operator import itemgetter
from pathlib import Path

from delia_ray.artifacts import MANIFEST, Artifact
from delia_ray.chain import Chain
from delia_ray.embedding.encoder import adopt_encoder
from delia_ray.evaluation.comparison import compare_all
from delia_ray.evaluation.config import ScoreConfig
from delia_ray.evaluation.stage import Examinee, score
from delia_ray.evaluation.task_metrics import metric_names
from delia_ray.harness.stage import ask_harness, check_harness, compare_harness
from delia_ray.mixing.shortage import Pool, check_pool_size
from delia_ray.mixing.stage import task_rows_of
from delia_ray.models.families import check_architecture
from delia_ray.preflight import check_usable
from delia_ray.probing.rows import check_probe
from delia_ray.reporting.pool import render_pool
from delia_ray.reporting.probe import render_probe
from delia_ray.reporting.stage import Comparison, report
from delia_ray.reporting.token_page import render_tokens
from delia_ray.serving.catalogue import BASE
from delia_ray.settings import POOL
from delia_ray.synthesis.describing import describe
from delia_ray.training.config import Lora

PLAIN = "it"
INSTRUCTED = "base_instruction"
_NOT_TO_CHOOSE_BY = ("false_trigger", "plug_play", "ordinary")


class Pipeline(Chain):
    """A run with its scores and reports."""

    def check(self, *, serves: bool) -> None:
        """Refuse what can be known to fail before the first artifact is written.

        Args:
            serves: whether the verb opens an endpoint.

        Raises:
            UserError: a row, a query, the model, the encoder or the port is not usable.
        """
        if not self._path("start", MANIFEST).exists():
            check_architecture(self.model.path)
        self._check_adapters()
        scored = [self._path("arms", name, "scores", MANIFEST) for name in (BASE, *self.arms)]
        check_usable(self.settings, self.model, serves=serves and not all(file.exists() for file in scored))

    def _check_adapters(self) -> None:
        """Try each kind of adapter that an arm is still to be trained with."""
        left = [arm for name, arm in self.arms.items() if not self._path("arms", name, "checkpoint", MANIFEST).exists()]
        parameters = (self.settings.finetune_for(arm).parameters for arm in left)
        if adapters := dict.fromkeys(each for each in parameters if isinstance(each, Lora)):
            from delia_ray.training.lora import check_lora  # noqa: PLC0415  PEFT takes seconds to import

            for lora in adapters:
                check_lora(self.model.path, lora)

    def prepare(self) -> None:
        """Build what the arms have in common.

        Raises:
            UserError: a pool is too small for an arm.
        """
        _ = self.precision  # before any arm is trained, on whatever machine
        self._connect()
        _ = self.start
        for asked in self.arms.values():
            self.task_rows(asked)
        self.check_pools(self.arms)

    def check_pools(self, arms: Iterable[str]) -> None:
        """Build what ``arms`` draw from, and refuse a pool that is too small before any of them is trained.

        Raises:
            UserError: saying what was left out of the pool, and what would fill it.
        """
        for name in arms:
            asked = self.arms[name]
            wanted, config = self._diverse_rows(asked), self.settings.mix_for(asked)
            if wanted and not self._path("arms", name, "mixed", MANIFEST).exists():
                key, numbered = self.settings.queries_of(asked.pool)
                diverse = self.pool(asked.pool)
                assert diverse is not None, "an arm that wants rows of a pool has one"
                pool = Pool(self._in_pool(asked.pool, ""), int(diverse.manifest.counts["rows"]), key, numbered)
                ratio_key = "mix.ratio" if asked.ratio is None else f"arms.{name}.ratio"
                check_pool_size(pool, wanted, task_rows_of(config, self.task), config.ratio, ratio_key)

    def models(self) -> dict[str, Artifact]:
        """Every model of the run, the untrained one first."""
        self.check_pools(self.arms)
        return {name: self.exported(name) for name in (BASE, *self.arms)}

    @cached_property
    def diversity(self) -> Artifact | None:
        """How diverse the pool is, in numbers and on a page; null where there is none."""
        config, diverse = self.settings.synthesize, self.diverse
        if diverse is None or not diverse.manifest.counts["rows"]:
            return None
        encoder = adopt_encoder(config.embeddings, self.model, "synthesize.embeddings")
        with self.progress.stage("diversity") as line:
            return describe(config, diverse, encoder, render_pool, self._site(self.model, line), self._path("diversity"))

    def scores(self, *arms: str) -> dict[str, Artifact]:
        """The scores of the base model and of ``arms`` (every arm unless named), asked over a live endpoint."""
        return self._scored(self.settings.score, "scores", arms)

    def dev_scores(self, *arms: str) -> dict[str, Artifact]:
        """Scores to choose by, on dev: of the task's own prompts, with the token and without it."""
        config = self.settings.score.model_copy(update={"split": "dev", **dict.fromkeys(_NOT_TO_CHOOSE_BY, 0)})
        return self._scored(config, "dev_scores", arms)

    def instructed(self, meaning: str) -> Artifact:
        """The scores of the untrained model that is told ``meaning`` where the task's prompts say its token."""
        return self._score(INSTRUCTED, {BASE: self.start}, self.settings.score, None, self._path("arms", INSTRUCTED, "scores"), meaning)

    def _scored(self, config: ScoreConfig, role: str, arms: tuple[str, ...]) -> dict[str, Artifact]:
        found: dict[str, Artifact] = {}
        for name, models in self._in_turns(*(arms or self.arms)):
            found[name] = self._score(name, models, config, found.get(BASE), self._path("arms", name, role))
        return found

    def _in_turns(self, *arms: str) -> Iterator[tuple[str, dict[str, Artifact]]]:
        """The base model and ``arms``, each with the models that are served together with it."""
        names, together = tuple(dict.fromkeys((BASE, *arms))), self.placement.serve.models
        self.check_pools(name for name in names if name != BASE)
        for first in range(0, len(names), together):
            models = {name: self.exported(name) for name in names[first : first + together]}
            yield from ((name, models) for name in models)

    def _score(
        self, arm: str, models: dict[str, Artifact], config: ScoreConfig, base: Artifact | None, out: Path, meaning: str | None = None
    ) -> Artifact:
        settings, name = self.settings, BASE if arm == INSTRUCTED else arm
        who = Examinee(name, models[name], self.start, base, meaning)
        with self.progress.stage(f"score {arm}" if config.split == "test" else f"score {arm} on {config.split}") as line:
            return score(
                config,
                settings.task,
                settings.judges,
                who,
                self.rewritten,
                lambda: self.endpoint(models),
                self._connect,
                line,
                self.settled_placement,
                out,
                self.provenance,
            )

    def probe(self) -> Artifact:
        """How the method's predictions fare in this run, with a page; the scores that are finished are read."""
        from delia_ray.probing.stage import Subjects, conclude, measure  # noqa: PLC0415  torch takes seconds to import

        config, at = self.settings, self.placement
        pool = check_probe(config.probe, self.pool(POOL), self.task, self.model)
        ratios = dict(sorted(((name, config.mix_for(arm).ratio) for name, arm in self.arms.items()), key=itemgetter(1)))
        subjects = Subjects(self._path(), ratios, self.start, self.rewritten, pool, self.models(), self.tokens)
        with self.progress.stage("gradients") as line:
            out = self._path("gradients")
            gradients = measure(config.probe, subjects, at.finetune, self.engine, self._connect, line, out, self.provenance)
        with self.progress.stage("probe"):
            metrics, out = metric_names(config.task), self._path("probe")
            return conclude(config.score, metrics, subjects, gradients, render_probe, out, self.provenance)

    def asked(self, *arms: str) -> dict[str, Artifact]:
        """What lm-eval finds for the base model and for ``arms`` (every arm unless named)."""
        config, how = self.settings.lm_eval, self.placement.lm_eval
        if not all(self._path("arms", name, "lm_eval", MANIFEST).exists() for name in (BASE, *(arms or self.arms))):
            check_harness(config, how)
        found: dict[str, Artifact] = {}
        for name, models in self._in_turns(*(arms or self.arms)):
            with self.progress.stage(f"lm-eval {name}") as line:
                url, out = partial(self.endpoint, models, config.max_length), self._path("arms", name, "lm_eval")
                found[name] = ask_harness(config, name, models[name], url, how, line, out, self.provenance)
        return found

    def retention(self) -> Artifact:
        """What every arm keeps of the tasks that lm-eval knows: before tuning and after it."""
        return compare_harness(self.settings.lm_eval, self.asked(), self._path("retention"), self.provenance)

    def report(self) -> Artifact:
        """The page and ``report.json``."""
        diversity, scores = self.diversity, self.scores()
        with self.progress.stage("report"):
            comparison = Comparison.model_validate(compare_all(scores, (PLAIN, BASE), self.settings.score))
            return report(self.settings, scores, comparison, diversity, self._path(), self._path("report"), self.provenance)

    def tokens_probe(self) -> Artifact:
        """What the task's new token has come to mean to every model, in numbers and on a page."""
        from delia_ray.probing.token_stage import probe_tokens  # noqa: PLC0415  torch takes seconds to import

        config, models, rewritten = self.settings.token_probe, self.models(), self.rewritten
        with self.progress.stage("probe tokens") as line:
            site, out = self._site(self.model, line), self._path("tokens")
            return probe_tokens(config, self.settings.task, models, rewritten, render_tokens, site, self.placement.serve, out)
