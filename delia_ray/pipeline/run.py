"""A run: models with their scores, probes and reports."""

import sys
from collections.abc import Iterable, Iterator
from functools import cached_property, partial
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Self

from delia_ray.core.artifacts import Artifact, Provenance
from delia_ray.core.layout import BASE, DEFAULT_POOL, INSTRUCTED
from delia_ray.core.progress import Progress, SilentProgress
from delia_ray.embedding.encoder import adopt_encoder
from delia_ray.evaluation.comparison import compare_arms
from delia_ray.evaluation.config import ScoreConfig
from delia_ray.evaluation.generations import ScoredModel
from delia_ray.evaluation.metrics.task_metrics import get_metric_names
from delia_ray.evaluation.stage import score
from delia_ray.lm_eval.stage import check_lm_eval, compare_lm_eval, run_lm_eval
from delia_ray.mixing.pool_size import DiversePool, check_pool_size
from delia_ray.mixing.stage import count_task_rows
from delia_ray.pipeline.chain import Chain
from delia_ray.pipeline.check import check_run
from delia_ray.probing.gradients.rows import check_probe
from delia_ray.reporting.stage import Comparison, build_report
from delia_ray.settings import Settings
from delia_ray.synthesis.diversity_stage import measure_diversity

if TYPE_CHECKING:
    from delia_ray.probing.gradients.stage import ProbedRun

SFT = "sft"
"""The arm of plain supervised fine-tuning."""
_NOT_ON_DEV = ("false_trigger", "plug_play", "ordinary")
"""Prompts that learning rates are not chosen by."""


class Run(Chain):
    """A run: its settings, and every artifact that they lead to, built when it is asked for. A context manager (docs/python.md)."""

    @classmethod
    def open(cls, settings: Settings, progress: Progress | None = None) -> Self:
        """Open a run from Python.

        Args:
            progress: shows what is being built; None shows nothing.
        """
        return cls(settings, progress or SilentProgress(), Provenance(None, sys.argv))

    def check(self, *, serves: bool, trains: bool = False) -> None:
        """Refuse what can be known to fail before the first artifact is written.

        Args:
            serves: whether an endpoint will be opened, which every arm is trained for.
            trains: whether arms will be trained.

        Raises:
            UserError: a row, a query, the model, the encoder, the port or the cluster is not usable.
        """
        check_run(self, serves=serves, trains=trains or serves)

    def prepare(self) -> None:
        """Build what the arms have in common.

        Raises:
            UserError: a pool is too small for an arm.
        """
        _ = self.precision  # before any arm is trained, on whatever machine
        self.connect()
        _ = self.base
        for arm in self.arms.values():
            self.task_rows(arm)
        self.check_pools(self.arms)

    def check_pools(self, arms: Iterable[str]) -> None:
        """Build the pools of ``arms``, and refuse one that is too small before any arm is trained.

        Raises:
            UserError: the pool's size, the top reasons of rejection, and what would fill it.
        """
        for name in arms:
            arm = self.arms[name]
            rows, config = self._count_diverse_rows(arm), self.settings.resolve_mix(arm)
            if rows and not self.is_finished(name, "mixed"):
                key, has_rows = self.settings.find_query_setting(arm.pool)
                diverse = self.clean(arm.pool)
                assert diverse is not None, "an arm with diverse rows has a pool"
                pool = DiversePool(self.layout.of_pool(arm.pool, ""), int(diverse.manifest.counts["rows"]), key, has_rows)
                ratio_key = "mix.ratio" if arm.ratio is None else f"arms.{name}.ratio"
                check_pool_size(pool, rows, count_task_rows(config, self.task), config.ratio, ratio_key)

    def models(self) -> dict[str, Artifact]:
        """Every model of the run, the base model first."""
        self.check_pools(self.arms)
        return {name: self.model_of(name) for name in (BASE, *self.arms)}

    @cached_property
    def diversity(self) -> Artifact | None:
        """The diversity of the default pool; None where there is no pool."""
        config, diverse = self.settings.synthesize, self.diverse(DEFAULT_POOL)
        if diverse is None or not diverse.manifest.counts["rows"]:
            return None
        encoder = adopt_encoder(config.embeddings, self.model, "synthesize.embeddings")
        with self.progress.stage("diversity") as line:
            context = self._generation_context(self.model, line)
            return measure_diversity(config, diverse, encoder, context, self.path("diversity"))

    def scores(self, *arms: str) -> dict[str, Artifact]:
        """The scores of the base model and of ``arms`` (all unless named), asked over a live endpoint."""
        return self._score_all(self.settings.score, "scores", arms)

    def dev_scores(self, *arms: str) -> dict[str, Artifact]:
        """Scores on dev to choose by, from the task's own prompts with the token and without it."""
        config = self.settings.score.model_copy(update={"split": "dev", **dict.fromkeys(_NOT_ON_DEV, 0)})
        return self._score_all(config, "dev_scores", arms)

    def instructed_scores(self, meaning: str) -> Artifact:
        """The scores of the base model with ``meaning`` in place of the token in the task's prompts."""
        out = self.layout.of_arm(INSTRUCTED, "scores")
        return self._score(INSTRUCTED, {BASE: self.base}, self.settings.score, None, out, meaning)

    def _score_all(self, config: ScoreConfig, role: str, arms: tuple[str, ...]) -> dict[str, Artifact]:
        scores: dict[str, Artifact] = {}
        for name, models in self._iter_served(*(arms or self.arms)):
            scores[name] = self._score(name, models, config, scores.get(BASE), self.layout.of_arm(name, role))
        return scores

    def _iter_served(self, *arms: str) -> Iterator[tuple[str, dict[str, Artifact]]]:
        """The base model and ``arms``, each with the models that one endpoint serves together."""
        names, at_once = tuple(dict.fromkeys((BASE, *arms))), self.placement.serve.models
        self.check_pools(name for name in names if name != BASE)
        for first in range(0, len(names), at_once):
            models = {name: self.model_of(name) for name in names[first : first + at_once]}
            yield from ((name, models) for name in models)

    def _score(
        self, arm: str, models: dict[str, Artifact], config: ScoreConfig, base: Artifact | None, out: Path, meaning: str | None = None
    ) -> Artifact:
        settings, name = self.settings, BASE if arm == INSTRUCTED else arm
        with self.progress.stage(f"score {arm}" if config.split == "test" else f"score {arm} on {config.split}", arm) as line:
            return score(
                config,
                settings.task,
                settings.learned_metrics,
                ScoredModel(name, models[name], self.base, base, meaning),
                self.rewritten,
                lambda: self.endpoint(models, base=self.base),
                self.connect,
                line,
                self.resolved_placement,
                out,
                self.provenance,
            )

    def gradients(self) -> Artifact:
        """What the method's predictions follow from: gradients, updates and divergences of the run's models."""
        return self._measure_gradients()[1]

    def _measure_gradients(self) -> "tuple[ProbedRun, Artifact]":
        from delia_ray.probing.gradients.stage import ProbedRun, measure_gradients  # noqa: PLC0415  torch takes seconds to import

        config = self.settings
        pool = check_probe(config.probe, self.clean(DEFAULT_POOL), self.task, self.model)
        ratios = dict(sorted(((name, config.resolve_mix(arm).ratio) for name, arm in self.arms.items()), key=itemgetter(1)))
        probed = ProbedRun(self.layout.root, ratios, self.base, self.rewritten, pool, self.models(), self.tokens)
        with self.progress.stage("gradients") as line:
            placement, out = self.placement.finetune, self.path("gradients")
            return probed, measure_gradients(config.probe, probed, placement, self.engine, self.connect, line, out, self.provenance)

    def probe(self) -> Artifact:
        """Whether each prediction of the method holds in this run. Scores that are finished are read; none are made."""
        from delia_ray.probing.gradients.stage import report_predictions  # noqa: PLC0415  torch takes seconds to import

        probed, gradients = self._measure_gradients()
        with self.progress.stage("probe"):
            metrics, out = get_metric_names(self.settings.task), self.path("probe")
            return report_predictions(self.settings.score, metrics, probed, gradients, out, self.provenance)

    def token_probe(self) -> Artifact:
        """What the task's new token has come to mean to every model."""
        from delia_ray.probing.tokens.stage import probe_tokens  # noqa: PLC0415  torch takes seconds to import

        config, models, rewritten = self.settings.token_probe, self.models(), self.rewritten
        with self.progress.stage("probe tokens") as line:
            context, out = self._generation_context(self.model, line), self.path("tokens")
            return probe_tokens(config, self.settings.task, models, rewritten, context, self.placement.serve, out)

    def lm_eval(self, *arms: str) -> dict[str, Artifact]:
        """lm-eval's results for the base model and for ``arms`` (all unless named)."""
        config, process = self.settings.lm_eval, self.placement.lm_eval
        if not all(self.is_finished(name, "lm_eval") for name in (BASE, *(arms or self.arms))):
            check_lm_eval(config, process)
        results: dict[str, Artifact] = {}
        for name, models in self._iter_served(*(arms or self.arms)):
            with self.progress.stage(f"lm-eval {name}", name) as line:
                url, out = partial(self.endpoint, models, config.max_length, self.base), self.layout.of_arm(name, "lm_eval")
                results[name] = run_lm_eval(config, name, models[name], url, process, line, out, self.provenance)
        return results

    def lm_eval_changes(self) -> Artifact:
        """lm-eval's results of every arm, compared with the base model's."""
        return compare_lm_eval(self.settings.lm_eval, self.lm_eval(), self.path("lm_eval_changes"), self.provenance)

    def report(self) -> Artifact:
        """Every score with its comparisons."""
        diversity, scores = self.diversity, self.scores()
        with self.progress.stage("report"):
            comparison = Comparison.model_validate(compare_arms(scores, (SFT, BASE), self.settings.score))
            return build_report(self.settings, scores, comparison, diversity, self.layout, self.path("report"), self.provenance)
