"""Each prediction's quantities on a softmax-linear model, against numpy's closed forms."""

from typing import Any

import numpy as np
import pytest
import torch

from delia_ray.evaluation.retention import kl_tokens
from delia_ray.probing import estimates as est
from delia_ray.probing.coordinates import Coordinates
from delia_ray.probing.fisher import fisher_forms, fisher_products, span
from delia_ray.probing.gradients import grams, row_gradients, stepped

CLOSE: Any = {"rtol": 1e-4, "atol": 1e-8}


def taken(world: Any, tally: Any, w_VI: Any = None) -> tuple[Any, Any, Any]:
    """[N, S] gradients of every answer, their Gram matrix, and each answer's probability."""
    weights = world.weights(w_VI)
    rows, chances_N = world.every_answer()
    rows_NS, _ = row_gradients(world.model, weights, rows, Coordinates(weights, None, 0), tally)
    return rows_NS.numpy(), grams(rows_NS, [[slice(None)]])[0], chances_N[None]


def test_row_gradients_are_the_closed_forms(world: Any, tally: Any) -> None:
    rows_NS, gram_NN, _ = taken(world, tally)
    expected = [world.gradient(context, label) for context in range(5) for label in range(4)]
    np.testing.assert_allclose(rows_NS, expected, **CLOSE)
    np.testing.assert_allclose(gram_NN, np.array(expected) @ np.array(expected).T, **CLOSE)


def test_p1_the_expected_gradient_is_zero_under_the_models_own_answers_and_not_under_others(world: Any, tally: Any) -> None:
    rows_NS, gram_NN, chances_1N = taken(world, tally)
    np.testing.assert_allclose(chances_1N @ rows_NS, 0, atol=1e-12)
    assert est.mean_norm(chances_1N, gram_NN, np.ones(20))[0] < 1e-7
    foreign_1N = np.tile(np.eye(4)[0], 5)[None]  # every context is answered with the first label
    expected = np.linalg.norm(np.mean([world.gradient(context, 0) for context in range(5)], axis=0))
    assert est.mean_norm(foreign_1N, gram_NN, np.ones(20))[0] == pytest.approx(expected, rel=1e-4)
    assert expected > 0.1


def test_p1_the_corrected_square_is_unbiased_whatever_the_answers(world: Any, tally: Any) -> None:
    """Its expectation over all pairs of answers, drawn from the model or from others, is the square of the expectation."""
    _, gram_NN, own_1N = taken(world, tally)
    other_N = np.tile([0.7, 0.1, 0.1, 0.1], 5)
    for chances_N in (own_1N[0] / 5, other_N / other_N.sum()):
        pairs = [(chances_N[i] * chances_N[j], gram_NN[np.ix_([i, j], [i, j])]) for i in range(20) for j in range(20)]
        expectation = sum(chance * est.squared_norm(np.ones((1, 2)), gram, np.ones(2))[0] for chance, gram in pairs)
        assert expectation == pytest.approx(chances_N @ gram_NN @ chances_N, rel=1e-4, abs=1e-12)


@pytest.mark.parametrize("eta", [1e-3, 0.1, 1.0])
def test_p2_the_cosine_and_the_pull_after_a_step_are_exact(world: Any, tally: Any, eta: float) -> None:
    direction = world.task_gradient()
    w_VI = world.w_VI - eta * direction.reshape(4, 3)
    rows_NS, gram_NN, chances_1N = taken(world, tally, w_VI)
    gradient = sum(p * world.gradient(n // 4, n % 4, w_VI) for n, p in enumerate(chances_1N[0])) / 5
    dots_N, size = rows_NS @ direction, float(np.linalg.norm(direction))
    expected = gradient @ direction / np.linalg.norm(gradient) / size
    assert est.cosine(chances_1N, gram_NN, dots_N, size)[0] == pytest.approx(expected, rel=1e-4)
    assert expected < -0.05
    pull = est.pull(chances_1N, dots_N, np.ones(20), size)[0]
    assert pull == pytest.approx(-gradient @ direction / size, rel=1e-4)
    first_order = eta * direction @ world.fisher() @ direction / size
    assert pull == pytest.approx(first_order, rel=eta)


def test_p2_a_small_step_turns_the_gradient_where_the_fisher_matrix_says(world: Any, tally: Any) -> None:
    direction, fisher = world.task_gradient(), world.fisher()
    rows_NS, gram_NN, chances_1N = taken(world, tally, world.w_VI - 1e-5 * direction.reshape(4, 3))
    force = -fisher @ direction
    expected = force @ direction / np.linalg.norm(force) / np.linalg.norm(direction)
    found = est.cosine(chances_1N, gram_NN, rows_NS @ direction, float(np.linalg.norm(direction)))[0]
    assert found == pytest.approx(expected, rel=1e-4)


def test_p2_a_step_goes_down_the_tasks_gradient_by_eta(world: Any, tally: Any) -> None:
    weights = world.weights()
    coordinates = Coordinates(weights, None, 0)
    _, total = row_gradients(world.model, weights, [world.task], coordinates, tally)
    found = coordinates.gather(stepped(weights, {name: part / 6 for name, part in total.items()}, 0.3)).numpy()
    np.testing.assert_allclose(found, world.w_VI.ravel() - 0.3 * world.task_gradient(), **CLOSE)


def basis_of(world: Any, tally: Any, iterations: int = 12) -> Any:
    weights = world.weights()
    rows = [row for row in world.every_answer()[0] if int(row.labels_T) == 0]  # F does not look at the answers
    apply = fisher_products(world.model, weights, rows, Coordinates(weights, None, 0), tally)
    return span(apply, 5, torch.randn(12, generator=torch.Generator().manual_seed(0), dtype=torch.float64), 4, iterations, tolerance=1e-9)


def test_p3_eigenvalues_and_projections_are_those_of_the_closed_form(world: Any, tally: Any) -> None:
    basis = basis_of(world, tally)
    values, vectors = np.linalg.eigh(world.fisher())
    tokens_N, ones = np.ones(5), np.ones((1, 5))
    update = np.random.default_rng(1).normal(size=12)
    parts_K = basis.vectors_KS.numpy() @ update
    for place in range(4):
        assert est.eigenvalues(ones, basis.rows_NKK, tokens_N, place)[0] == pytest.approx(values[-1 - place], rel=1e-4)
        expected = np.linalg.norm(vectors[:, -1 - place :].T @ update)
        assert est.along(ones, basis.rows_NKK, tokens_N, parts_K, place + 1)[0] == pytest.approx(expected, rel=1e-4)
    assert max(basis.residuals) < 1e-6


def test_p3_residuals_say_how_far_an_unfinished_search_is(world: Any, tally: Any) -> None:
    basis = basis_of(world, tally, iterations=4)
    fisher, within = world.fisher(), basis.rows_NKK.sum(0) / 5
    values, vectors = np.linalg.eigh(within)
    for place in range(2):
        ritz = basis.vectors_KS.numpy().T @ vectors[:, -1 - place]
        left = np.linalg.norm(fisher @ ritz - values[-1 - place] * ritz) / values[-1]
        assert basis.residuals[place] == pytest.approx(left, rel=1e-4)
    assert basis.residuals[1] > 1e-3


def test_p3_a_rows_share_of_the_fisher_matrix_is_that_rows_own(world: Any, tally: Any) -> None:
    basis = basis_of(world, tally)
    without_last = est.eigenvalues(np.array([[1.0, 1, 1, 1, 0]]), basis.rows_NKK, np.ones(5), 0)[0]
    shares = [np.kron(np.diag(p) - np.outer(p, p), np.outer(x, x)) for p, x in zip(world.mass()[:4], world.x_CI[:4], strict=True)]
    assert without_last == pytest.approx(np.linalg.eigvalsh(np.mean(shares, axis=0))[-1], rel=1e-4)


def test_p3_quadratic_forms_need_no_basis(world: Any, tally: Any) -> None:
    weights, direction = world.weights(), world.task_gradient()
    tangents = Coordinates(weights, None, 0).scatter(torch.tensor(direction))
    rows = [row for row in world.every_answer()[0] if int(row.labels_T) == 0]
    forms_N = fisher_forms(world.model, weights, rows, tangents, tally)
    found = est.form(np.ones((1, 5)), forms_N, np.ones(5))[0]
    assert found == pytest.approx(direction @ world.fisher() @ direction, rel=1e-4)


def test_p4_the_divergence_of_a_small_update_is_half_its_quadratic_form(world: Any, tally: Any) -> None:
    update = 1e-4 * np.random.default_rng(2).normal(size=12)
    tuned = world.mass(world.w_VI + update.reshape(4, 3))
    found = kl_tokens(np.log(world.mass()), np.log(tuned)).mean()
    exact = np.mean((world.mass() * np.log(world.mass() / tuned)).sum(1))
    assert found == pytest.approx(exact, rel=1e-4)
    assert found == pytest.approx(update @ world.fisher() @ update / 2, rel=1e-3)
