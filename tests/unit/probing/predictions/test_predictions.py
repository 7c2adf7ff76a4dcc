"""The quantities of each prediction on a softmax-linear model, against closed forms in numpy."""

from typing import Any

import numpy as np
import pytest
import torch

from delia_ray.evaluation.metrics.kl import token_kl
from delia_ray.probing.gradients.coordinates import Coordinates
from delia_ray.probing.gradients.fisher import fisher_quadratic_forms, lanczos, make_fisher_operator
from delia_ray.probing.gradients.gradients import gram_matrices, row_gradients, take_step
from delia_ray.probing.predictions import estimates as est

CLOSE: Any = {"rtol": 1e-4, "atol": 1e-8}


def compute_gradients(problem: Any, tally: Any, w_VI: Any = None) -> tuple[Any, Any, Any]:
    """Compute the [N, S] gradients of every answer, their Gram matrix, and each answer's probability."""
    weights = problem.weights(w_VI)
    rows, probabilities_N = problem.enumerate_answers()
    rows_NS, _ = row_gradients(problem.model, weights, rows, Coordinates(weights, None, 0), tally)
    return rows_NS.numpy(), gram_matrices(rows_NS, [[slice(None)]])[0], probabilities_N[None]


def test_row_gradients_are_the_closed_forms(problem: Any, tally: Any) -> None:
    rows_NS, gram_NN, _ = compute_gradients(problem, tally)
    expected = [problem.gradient(context, label) for context in range(5) for label in range(4)]
    np.testing.assert_allclose(rows_NS, expected, **CLOSE)
    np.testing.assert_allclose(gram_NN, np.array(expected) @ np.array(expected).T, **CLOSE)


def test_p1_the_expected_gradient_is_zero_under_the_models_own_answers_and_not_under_others(problem: Any, tally: Any) -> None:
    rows_NS, gram_NN, probabilities_1N = compute_gradients(problem, tally)
    np.testing.assert_allclose(probabilities_1N @ rows_NS, 0, atol=1e-12)
    assert est.mean_norm(probabilities_1N, gram_NN, np.ones(20))[0] < 1e-7
    foreign_1N = np.tile(np.eye(4)[0], 5)[None]  # every context is answered with the first label
    expected = np.linalg.norm(np.mean([problem.gradient(context, 0) for context in range(5)], axis=0))
    assert est.mean_norm(foreign_1N, gram_NN, np.ones(20))[0] == pytest.approx(expected, rel=1e-4)
    assert expected > 0.1


def test_p1_the_corrected_square_is_unbiased_whatever_the_answers(problem: Any, tally: Any) -> None:
    """Its expectation over all pairs of answers, sampled from the model or from others, is the square of the expectation."""
    _, gram_NN, own_1N = compute_gradients(problem, tally)
    other_N = np.tile([0.7, 0.1, 0.1, 0.1], 5)
    for probabilities_N in (own_1N[0] / 5, other_N / other_N.sum()):
        pairs = [(probabilities_N[i] * probabilities_N[j], gram_NN[np.ix_([i, j], [i, j])]) for i in range(20) for j in range(20)]
        expectation = sum(probability * est.unbiased_squared_norm(np.ones((1, 2)), gram, np.ones(2))[0] for probability, gram in pairs)
        assert expectation == pytest.approx(probabilities_N @ gram_NN @ probabilities_N, rel=1e-4, abs=1e-12)


@pytest.mark.parametrize("eta", [1e-3, 0.1, 1.0])
def test_p2_the_cosine_and_the_restoring_force_after_a_step_are_exact(problem: Any, tally: Any, eta: float) -> None:
    direction = problem.task_gradient()
    w_VI = problem.w_VI - eta * direction.reshape(4, 3)
    rows_NS, gram_NN, probabilities_1N = compute_gradients(problem, tally, w_VI)
    gradient = sum(p * problem.gradient(n // 4, n % 4, w_VI) for n, p in enumerate(probabilities_1N[0])) / 5
    dots_N, size = rows_NS @ direction, float(np.linalg.norm(direction))
    expected = gradient @ direction / np.linalg.norm(gradient) / size
    assert est.cosine(probabilities_1N, gram_NN, dots_N, size)[0] == pytest.approx(expected, rel=1e-4)
    assert expected < -0.05
    force = est.restoring_force(probabilities_1N, dots_N, np.ones(20), size)[0]
    assert force == pytest.approx(-gradient @ direction / size, rel=1e-4)
    first_order = eta * direction @ problem.fisher() @ direction / size
    assert force == pytest.approx(first_order, rel=eta)


def test_p2_a_small_step_turns_the_gradient_where_the_fisher_matrix_says(problem: Any, tally: Any) -> None:
    direction, fisher = problem.task_gradient(), problem.fisher()
    rows_NS, gram_NN, probabilities_1N = compute_gradients(problem, tally, problem.w_VI - 1e-5 * direction.reshape(4, 3))
    force = -fisher @ direction
    expected = force @ direction / np.linalg.norm(force) / np.linalg.norm(direction)
    value = est.cosine(probabilities_1N, gram_NN, rows_NS @ direction, float(np.linalg.norm(direction)))[0]
    assert value == pytest.approx(expected, rel=1e-4)


def test_p2_a_step_goes_down_the_tasks_gradient_by_eta(problem: Any, tally: Any) -> None:
    weights = problem.weights()
    coordinates = Coordinates(weights, None, 0)
    _, total = row_gradients(problem.model, weights, [problem.task], coordinates, tally)
    stepped = coordinates.gather(take_step(weights, {name: part / 6 for name, part in total.items()}, 0.3)).numpy()
    np.testing.assert_allclose(stepped, problem.w_VI.ravel() - 0.3 * problem.task_gradient(), **CLOSE)


def find_basis(problem: Any, tally: Any, iterations: int = 12) -> Any:
    weights = problem.weights()
    rows = [row for row in problem.enumerate_answers()[0] if int(row.labels_T) == 0]  # F does not depend on the answers
    multiply = make_fisher_operator(problem.model, weights, rows, Coordinates(weights, None, 0), tally)
    return lanczos(
        multiply, 5, torch.randn(12, generator=torch.Generator().manual_seed(0), dtype=torch.float64), 4, iterations, tolerance=1e-9
    )


def test_p3_eigenvalues_and_projections_are_those_of_the_closed_form(problem: Any, tally: Any) -> None:
    basis = find_basis(problem, tally)
    values, vectors = np.linalg.eigh(problem.fisher())
    tokens_N, ones = np.ones(5), np.ones((1, 5))
    update = np.random.default_rng(1).normal(size=12)
    dots_K = basis.vectors_KS.numpy() @ update
    for index in range(4):
        assert est.eigenvalues(ones, basis.rows_NKK, tokens_N, index)[0] == pytest.approx(values[-1 - index], rel=1e-4)
        expected = np.linalg.norm(vectors[:, -1 - index :].T @ update)
        assert est.projection_norm(ones, basis.rows_NKK, tokens_N, dots_K, index + 1)[0] == pytest.approx(expected, rel=1e-4)
    assert max(basis.residuals) < 1e-6


def test_p3_residuals_say_how_far_an_unfinished_search_is(problem: Any, tally: Any) -> None:
    basis = find_basis(problem, tally, iterations=4)
    fisher, within = problem.fisher(), basis.rows_NKK.sum(0) / 5
    values, vectors = np.linalg.eigh(within)
    for index in range(2):
        ritz = basis.vectors_KS.numpy().T @ vectors[:, -1 - index]
        residual = np.linalg.norm(fisher @ ritz - values[-1 - index] * ritz) / values[-1]
        assert basis.residuals[index] == pytest.approx(residual, rel=1e-4)
    assert basis.residuals[1] > 1e-3


def test_p3_a_rows_term_of_the_fisher_matrix_is_that_rows_own(problem: Any, tally: Any) -> None:
    basis = find_basis(problem, tally)
    without_last = est.eigenvalues(np.array([[1.0, 1, 1, 1, 0]]), basis.rows_NKK, np.ones(5), 0)[0]
    terms = [
        np.kron(np.diag(p) - np.outer(p, p), np.outer(x, x)) for p, x in zip(problem.probabilities()[:4], problem.x_CI[:4], strict=True)
    ]
    assert without_last == pytest.approx(np.linalg.eigvalsh(np.mean(terms, axis=0))[-1], rel=1e-4)


def test_p3_quadratic_forms_need_no_basis(problem: Any, tally: Any) -> None:
    weights, direction = problem.weights(), problem.task_gradient()
    tangents = Coordinates(weights, None, 0).scatter(torch.tensor(direction))
    rows = [row for row in problem.enumerate_answers()[0] if int(row.labels_T) == 0]
    forms_N = fisher_quadratic_forms(problem.model, weights, rows, tangents, tally)
    value = est.quadratic_form(np.ones((1, 5)), forms_N, np.ones(5))[0]
    assert value == pytest.approx(direction @ problem.fisher() @ direction, rel=1e-4)


def test_p4_the_divergence_of_a_small_update_is_half_its_quadratic_form(problem: Any, tally: Any) -> None:
    update = 1e-4 * np.random.default_rng(2).normal(size=12)
    tuned = problem.probabilities(problem.w_VI + update.reshape(4, 3))
    value = token_kl(np.log(problem.probabilities()), np.log(tuned)).mean()
    exact = np.mean((problem.probabilities() * np.log(problem.probabilities() / tuned)).sum(1))
    assert value == pytest.approx(exact, rel=1e-4)
    assert value == pytest.approx(update @ problem.fisher() @ update / 2, rel=1e-3)
