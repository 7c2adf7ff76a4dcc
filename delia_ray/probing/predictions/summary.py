"""Measurements of the probe from inner products of gradients: every number with its interval."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from delia_ray.evaluation.metrics.definitions import TOKEN_KL
from delia_ray.evaluation.statistics.clusters import ClusterCodes, assign_singletons
from delia_ray.evaluation.statistics.estimation import estimate_difference, estimate_interval
from delia_ray.evaluation.statistics.intervals import Columns, Interval, PairedDifference
from delia_ray.probing.config import ProbeConfig
from delia_ray.probing.predictions import estimates as est
from delia_ray.probing.predictions.estimates import Statistic, jackknife
from delia_ray.probing.predictions.products import SETS, Floats, GradientProducts, StepProducts, UpdateProducts
from delia_ray.probing.predictions.schema import (
    ArmDifference,
    ArmFacts,
    Facts,
    GradientStep,
    LayerGradients,
    Measurements,
    Norms,
    WeightUpdate,
)

ArmPairs = Sequence[tuple[str, str]]
"""Pairs of an arm with fewer diverse rows and one with more."""


def pair_arms(arms: Mapping[str, ArmFacts]) -> list[tuple[str, str]]:
    """Pair arms with neighboring ratios, the arm with fewer diverse rows first; of arms with equal ratios, the first one is taken."""
    first: dict[float, str] = {}
    for arm, facts in arms.items():
        first.setdefault(facts.ratio, arm)
    return list(pairwise(first[ratio] for ratio in sorted(first)))


def summarize_products(
    config: ProbeConfig, arms: Mapping[str, ArmFacts], products: GradientProducts, divergences: Mapping[str, Sequence[Sequence[float]]]
) -> Measurements:
    """Compute all measurements of ``gradients.json``.

    Args:
        config: settings of the probe.
        arms: the trained arms.
        products: inner products of gradients.
        divergences: arm -> KL at each token of each held-out row.
    """
    whole_MM, fisher_N = products.grams_LMM.sum(0), products.tokens["own"][: config.fisher_rows]
    pairs = pair_arms(arms)
    along, share = _compare_updates(products, fisher_N, pairs, config.eigenvectors)
    diverged, divergence_differences = estimate_divergences(divergences, pairs, config)
    return Measurements(
        facts=_collect_facts(config, products),
        arms=dict(arms),
        norms={name: estimate_norms(_select_block(products, whole_MM, name), products.tokens[name], products.fraction) for name in SETS},
        foreign_minus_own=_estimate_foreign_minus_own(products, whole_MM),
        whole_cosines={name: estimate_cosine(whole_MM, products.find_slice("task"), products.find_slice(name)) for name in SETS[:-1]},
        layers=[_estimate_layer(products, name, gram_MM) for name, gram_MM in zip(products.layers, products.grams_LMM, strict=True)],
        steps=[_estimate_step(products, step) for step in products.steps],
        cosine_change=_estimate_cosine_change(products),
        eigenvalues=[
            _estimate_eigenvalue(products, fisher_N, index) for index in range(min(config.eigenvectors, products.fisher_NKK.shape[-1]))
        ],
        updates={arm: _estimate_update(products, update, fisher_N, config.eigenvectors) for arm, update in products.updates.items()},
        along=along,
        share=share,
        divergences=diverged,
        diverged=divergence_differences,
    )


def _collect_facts(config: ProbeConfig, products: GradientProducts) -> Facts:
    return Facts(
        parameters=products.parameters,
        chosen=products.chosen,
        coordinates=products.coordinates,
        rows=len(products.tokens["own"]),
        task_rows=len(products.tokens["task"]),
        fisher_rows=len(products.fisher_NKK),
        products=products.fisher_NKK.shape[-1],
        residuals=products.residuals,
        answer_tokens=config.answer_tokens,
        foreign="shuffled" if config.foreign is None else "file",
    )


def _select_block(products: GradientProducts, gram_MM: Floats, name: str) -> Floats:
    """Select the Gram matrix of one set from that of all sets."""
    return gram_MM[products.find_slice(name), products.find_slice(name)]


def estimate_norms(gram_NN: Floats, tokens_N: Floats, fraction: float) -> Norms:
    """Estimate the plain and the corrected norm of the mean gradient, over all coordinates."""
    scaled_NN, sizes = gram_NN / fraction, [len(tokens_N)]
    plain = jackknife(lambda w: est.mean_norm(w, scaled_NN, tokens_N), sizes)
    square = jackknife(lambda w: est.unbiased_squared_norm(w, scaled_NN, tokens_N), sizes)
    return Norms(plain=plain, corrected=est.square_root(square), tokens=int(tokens_N.sum()))


def _estimate_foreign_minus_own(products: GradientProducts, gram_MM: Floats) -> Interval:
    """Estimate the difference of the squared norms; the two answers to a query are left out together."""

    def square(name: str, w: Floats) -> Floats:
        return est.unbiased_squared_norm(w, _select_block(products, gram_MM, name) / products.fraction, products.tokens[name])

    return jackknife(lambda w: square("foreign", w) - square("own", w), [len(products.tokens["own"])])


def estimate_cosine(gram_MM: Floats, left: slice, right: slice) -> Interval:
    """Estimate the cosine of the gradient sums over two sets of rows."""
    indices, size = np.r_[left, right], left.stop - left.start
    both_MM = gram_MM[np.ix_(indices, indices)]
    return jackknife(lambda w: est.cosine_of_sums(w, both_MM, size), [size, right.stop - right.start])


def _estimate_layer(products: GradientProducts, name: str, gram_MM: Floats) -> LayerGradients:
    task, diverse = (
        float(
            est.mean_norm(
                np.ones((1, len(products.tokens[each]))), _select_block(products, gram_MM, each) / products.fraction, products.tokens[each]
            )[0]
        )
        for each in ("task", "pool")
    )
    cosine = estimate_cosine(gram_MM, products.find_slice("task"), products.find_slice("pool"))
    return LayerGradients(name=name, task_norm=task, diverse_norm=diverse, cosine=cosine)


def _estimate_step(products: GradientProducts, step: StepProducts) -> GradientStep:
    tokens_N, step_norm = products.tokens["own"], step.eta * products.task_norm
    sizes = [len(tokens_N)]
    return GradientStep(
        length=step.length,
        eta=step.eta,
        cosine=jackknife(lambda w: est.cosine(w, step.gram_NN, step.dots_N, products.sampled_task_norm), sizes),
        pull=jackknife(lambda w: est.restoring_force(w, step.dots_N / products.fraction, tokens_N, products.task_norm), sizes),
        predicted=jackknife(lambda w: step_norm * est.quadratic_form(w, products.forms_N, tokens_N), sizes),
    )


def _estimate_cosine_change(products: GradientProducts) -> Interval:
    """Estimate the cosine after the longest step minus that after the shortest, over the same rows."""

    def change(w: Floats) -> Floats:
        shortest, longest = (
            est.cosine(w, step.gram_NN, step.dots_N, products.sampled_task_norm) for step in (products.steps[0], products.steps[-1])
        )
        return longest - shortest

    return jackknife(change, [len(products.tokens["own"])])


def _estimate_eigenvalue(products: GradientProducts, tokens_N: Floats, index: int) -> Interval:
    """Estimate an eigenvalue; it is divided by the sampled fraction, since F over a sample of the coordinates is that much smaller."""
    return jackknife(lambda w: est.eigenvalues(w, products.fisher_NKK, tokens_N, index) / products.fraction, [len(tokens_N)])


def _estimate_update(products: GradientProducts, update: UpdateProducts, tokens_N: Floats, top: int) -> WeightUpdate:
    along, share = (
        jackknife(_make_projection(products, update, tokens_N, top, scale), [len(tokens_N)]) for scale in _find_scales(products, update)
    )
    return WeightUpdate(whole=update.norm, chosen=update.chosen_norm, along=est.clip_at_zero(along), share=est.clip_at_zero(share))


def _compare_updates(
    products: GradientProducts, tokens_N: Floats, pairs: ArmPairs, top: int
) -> tuple[list[ArmDifference], list[ArmDifference]]:
    """Compare the projections' norms, and their shares of the updates, between paired arms; over the same Fisher rows for both arms."""

    def compare_pair(fewer: str, more: str, which: int) -> list[ArmDifference]:
        left, right = (
            _make_projection(products, update, tokens_N, top, _find_scales(products, update)[which])
            for update in (products.updates[fewer], products.updates[more])
        )
        result = jackknife(lambda w: right(w) - left(w), [len(tokens_N)])
        # The share of an update that is 0 is not defined.
        if result.value is None:
            return []
        return [make_difference(fewer, more, PairedDifference(result.value, result.low, result.high, None, note=result.note))]

    return [each for pair in pairs for each in compare_pair(*pair, 0)], [each for pair in pairs for each in compare_pair(*pair, 1)]


def _find_scales(products: GradientProducts, update: UpdateProducts) -> tuple[float, float]:
    """Find the divisors of a projection within the sample: for its norm over all coordinates, and for its share of the update."""
    return products.fraction**0.5, update.sampled_norm


def _make_projection(products: GradientProducts, update: UpdateProducts, tokens_N: Floats, top: int, scale: float) -> Statistic:
    return lambda w: est.projection_norm(w, products.fisher_NKK, tokens_N, update.dots_K, top) / scale


def estimate_divergences(
    values: Mapping[str, Sequence[Sequence[float]]], pairs: ArmPairs, config: ProbeConfig
) -> tuple[dict[str, Interval], list[ArmDifference]]:
    """Estimate the mean KL(theta0 || theta) per token of each arm, and its differences between paired arms. Rows are independent.

    Args:
        values: arm -> KL at each token of each held-out row.
        pairs: the arms to compare.
        config: seed and number of resamples.
    """
    columns: dict[str, Columns] = {
        arm: {"kl_sum": np.array([sum(row) for row in rows]), "tokens": np.array([len(row) for row in rows])}
        for arm, rows in values.items()
        if rows
    }
    bootstrap = config.seed, config.resamples
    intervals = {arm: estimate_interval(TOKEN_KL, column, [_code_rows(column)], *bootstrap) for arm, column in columns.items()}
    differences = [
        make_difference(fewer, more, estimate_difference(TOKEN_KL, columns[more], columns[fewer], [_code_rows(columns[more])], *bootstrap))
        for fewer, more in pairs
        if fewer in columns and more in columns
    ]
    return intervals, differences


def make_difference(fewer: str, more: str, difference: PairedDifference) -> ArmDifference:
    """Make the record of a measured difference between paired arms."""
    assert difference.difference is not None, "both arms were measured on the same rows"
    return ArmDifference(
        fewer=fewer,
        more=more,
        difference=difference.difference,
        low=difference.low,
        high=difference.high,
        p=difference.p,
        note=difference.note,
    )


def _code_rows(columns: Columns) -> ClusterCodes:
    """Give each row a cluster of its own."""
    return assign_singletons(len(columns["tokens"]))
