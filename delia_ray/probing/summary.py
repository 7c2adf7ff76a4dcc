"""From inner products to what was found: every number with its interval."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from delia_ray.evaluation.bootstrap import Columns, Difference, Interval
from delia_ray.evaluation.clusters import Codes, single
from delia_ray.evaluation.estimation import compare, estimate
from delia_ray.evaluation.measures import TOKEN_KL
from delia_ray.probing import estimates as est
from delia_ray.probing.config import ProbeConfig
from delia_ray.probing.estimates import Statistic, jackknife
from delia_ray.probing.findings import ArmFacts, Change, Facts, Layer, Measured, Norms, Step, Update
from delia_ray.probing.raw import SETS, Floats, Raw, RawStep, RawUpdate

Ladder = Sequence[tuple[str, str]]


def ladder(arms: Mapping[str, ArmFacts]) -> list[tuple[str, str]]:
    """Pairs of arms with fewer and with more diverse rows, step by step; of arms with one ratio, the first."""
    first: dict[float, str] = {}
    for arm, facts in arms.items():
        first.setdefault(facts.ratio, arm)
    return list(pairwise(first[ratio] for ratio in sorted(first)))


def summarise(
    config: ProbeConfig, arms: Mapping[str, ArmFacts], raw: Raw, divergences: Mapping[str, Sequence[Sequence[float]]]
) -> Measured:
    """Everything that was measured.

    Args:
        divergences: arm -> KL at each token of each held-out row.
    """
    whole_MM, fisher_N = raw.grams_LMM.sum(0), raw.tokens["own"][: config.fisher_rows]
    steps = ladder(arms)
    along, share = _update_changes(raw, fisher_N, steps, config.eigenvectors)
    diverged, divergence_changes = divergences_of(divergences, steps, config)
    return Measured(
        facts=_facts(config, raw),
        arms=dict(arms),
        norms={name: norms_of(_block(raw, whole_MM, name), raw.tokens[name], raw.fraction) for name in SETS},
        foreign_minus_own=_foreign_minus_own(raw, whole_MM),
        whole_cosines={name: cosine_of(whole_MM, raw.rows_of("task"), raw.rows_of(name)) for name in SETS[:-1]},
        layers=[_layer(raw, name, gram_MM) for name, gram_MM in zip(raw.layers, raw.grams_LMM, strict=True)],
        steps=[_step(raw, step) for step in raw.steps],
        cosine_change=_cosine_change(raw),
        eigenvalues=[_eigenvalue(raw, fisher_N, place) for place in range(min(config.eigenvectors, raw.basis_NKK.shape[-1]))],
        updates={arm: _update(raw, found, fisher_N, config.eigenvectors) for arm, found in raw.updates.items()},
        along=along,
        share=share,
        divergences=diverged,
        diverged=divergence_changes,
    )


def _facts(config: ProbeConfig, raw: Raw) -> Facts:
    return Facts(
        parameters=raw.parameters,
        chosen=raw.chosen,
        coordinates=raw.coordinates,
        rows=len(raw.tokens["own"]),
        task_rows=len(raw.tokens["task"]),
        fisher_rows=len(raw.basis_NKK),
        products=raw.basis_NKK.shape[-1],
        residuals=raw.residuals,
        answer_tokens=config.answer_tokens,
        foreign="shuffled" if config.foreign is None else "file",
    )


def _block(raw: Raw, gram_MM: Floats, name: str) -> Floats:
    return gram_MM[raw.rows_of(name), raw.rows_of(name)]


def norms_of(gram_NN: Floats, tokens_N: Floats, fraction: float) -> Norms:
    """Plain and corrected norm of the mean gradient, over all coordinates."""
    scaled_NN, sizes = gram_NN / fraction, [len(tokens_N)]
    plain = jackknife(lambda w: est.mean_norm(w, scaled_NN, tokens_N), sizes)
    square = jackknife(lambda w: est.squared_norm(w, scaled_NN, tokens_N), sizes)
    return Norms(plain=plain, corrected=est.root(square), tokens=int(tokens_N.sum()))


def _foreign_minus_own(raw: Raw, gram_MM: Floats) -> Interval:
    """The two answers to a query are left out together."""

    def square(name: str, w: Floats) -> Floats:
        return est.squared_norm(w, _block(raw, gram_MM, name) / raw.fraction, raw.tokens[name])

    return jackknife(lambda w: square("foreign", w) - square("own", w), [len(raw.tokens["own"])])


def cosine_of(gram_MM: Floats, left: slice, right: slice) -> Interval:
    """Cosine of the sums over two sets of rows."""
    places, size = np.r_[left, right], left.stop - left.start
    both_MM = gram_MM[np.ix_(places, places)]
    return jackknife(lambda w: est.cosine_of_means(w, both_MM, size), [size, right.stop - right.start])


def _layer(raw: Raw, name: str, gram_MM: Floats) -> Layer:
    task, diverse = (
        float(est.mean_norm(np.ones((1, len(raw.tokens[each]))), _block(raw, gram_MM, each) / raw.fraction, raw.tokens[each])[0])
        for each in ("task", "pool")
    )
    return Layer(name=name, task_norm=task, diverse_norm=diverse, cosine=cosine_of(gram_MM, raw.rows_of("task"), raw.rows_of("pool")))


def _step(raw: Raw, step: RawStep) -> Step:
    tokens_N, reach = raw.tokens["own"], step.eta * raw.task_norm
    sizes = [len(tokens_N)]
    return Step(
        length=step.length,
        eta=step.eta,
        cosine=jackknife(lambda w: est.cosine(w, step.gram_NN, step.dots_N, raw.task_sampled), sizes),
        pull=jackknife(lambda w: est.pull(w, step.dots_N / raw.fraction, tokens_N, raw.task_norm), sizes),
        predicted=jackknife(lambda w: reach * est.form(w, raw.forms_N, tokens_N), sizes),
    )


def _cosine_change(raw: Raw) -> Interval:
    """Over the same rows."""

    def change(w: Floats) -> Floats:
        shortest, longest = (est.cosine(w, step.gram_NN, step.dots_N, raw.task_sampled) for step in (raw.steps[0], raw.steps[-1]))
        return longest - shortest

    return jackknife(change, [len(raw.tokens["own"])])


def _eigenvalue(raw: Raw, tokens_N: Floats, place: int) -> Interval:
    """Over the fraction, of which a sample of the coordinates has so much less."""
    return jackknife(lambda w: est.eigenvalues(w, raw.basis_NKK, tokens_N, place) / raw.fraction, [len(tokens_N)])


def _update(raw: Raw, update: RawUpdate, tokens_N: Floats, top: int) -> Update:
    along, share = (jackknife(_along(raw, update, tokens_N, top, scale), [len(tokens_N)]) for scale in _scales(raw, update))
    return Update(whole=update.whole, chosen=update.chosen, along=est.not_negative(along), share=est.not_negative(share))


def _update_changes(raw: Raw, tokens_N: Floats, steps: Ladder, top: int) -> tuple[list[Change], list[Change]]:
    """What each step to more diverse rows changed of the projections' norms, and of their shares; the same Fisher rows for both arms."""

    def change(fewer: str, more: str, which: int) -> list[Change]:
        left, right = (
            _along(raw, update, tokens_N, top, _scales(raw, update)[which]) for update in (raw.updates[fewer], raw.updates[more])
        )
        found = jackknife(lambda w: right(w) - left(w), [len(tokens_N)])
        # An update that is 0 has no share along anything.
        known = found.value is not None
        return [changed(fewer, more, Difference(found.value, found.low, found.high, None, note=found.note))] if known else []

    return [each for pair in steps for each in change(*pair, 0)], [each for pair in steps for each in change(*pair, 1)]


def _scales(raw: Raw, update: RawUpdate) -> tuple[float, float]:
    """What a projection within the sample is divided by: for its norm over all coordinates, and for its share of the update."""
    return raw.fraction**0.5, update.sampled


def _along(raw: Raw, update: RawUpdate, tokens_N: Floats, top: int, scale: float) -> Statistic:
    return lambda w: est.along(w, raw.basis_NKK, tokens_N, update.basis_K, top) / scale


def divergences_of(
    values: Mapping[str, Sequence[Sequence[float]]], steps: Ladder, config: ProbeConfig
) -> tuple[dict[str, Interval], list[Change]]:
    """Mean KL(theta0 || theta) a token of each arm, and what each step to more diverse rows changed. Each row stands alone."""
    columns: dict[str, Columns] = {
        arm: {"kl_sum": np.array([sum(row) for row in rows]), "tokens": np.array([len(row) for row in rows])}
        for arm, rows in values.items()
        if rows
    }
    how = config.seed, config.resamples
    found = {arm: estimate(TOKEN_KL, column, [_alone(column)], *how) for arm, column in columns.items()}
    changes = [
        changed(fewer, more, compare(TOKEN_KL, columns[more], columns[fewer], [_alone(columns[more])], *how))
        for fewer, more in steps
        if fewer in columns and more in columns
    ]
    return found, changes


def changed(fewer: str, more: str, difference: Difference) -> Change:
    """A difference that was measured, as a step of the ladder."""
    assert difference.difference is not None, "both arms were measured on the same rows"
    return Change(
        fewer=fewer,
        more=more,
        difference=difference.difference,
        low=difference.low,
        high=difference.high,
        p=difference.p,
        note=difference.note,
    )


def _alone(columns: Columns) -> Codes:
    return single(len(columns["tokens"]))
