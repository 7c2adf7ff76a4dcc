"""The Fisher matrix of the diverse rows, as products with vectors, and its top eigenvectors.

F = 1/M sum_t J_t' (diag p_t - p_t p_t') J_t over the M supervised positions of all rows, where J_t is the Jacobian of the logits and p_t
their softmax. The expectation over the next token is computed in closed form, not sampled. F equals the Gauss-Newton matrix of the
cross-entropy (Martens, arXiv 1412.1193, section 9), and the expectation of the Hessian under the model's own answers (docs/method.md,
Theory).

Legend: T supervised tokens of a row, V vocabulary, N rows, S sampled coordinates, K vectors of a basis.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.autograd import forward_ad

from delia_ray.core.progress import Tally
from delia_ray.probing.gradients.coordinates import Coordinates
from delia_ray.probing.gradients.gradients import FunctionalModel, RowT, Weights
from delia_ray.probing.predictions.products import Floats


@dataclass(frozen=True)
class KrylovBasis:
    """An orthonormal basis of the Krylov space of F, and F within it."""

    vectors_KS: Tensor
    rows_NKK: Floats
    """Each row's term of F within the basis, summed over its tokens."""
    residuals: Sequence[float]
    """|F y - lambda y| / lambda_1 of each requested eigenvector y."""


def _compute_logit_products(
    model: FunctionalModel[RowT], weights: Weights, row: RowT, tangents: Mapping[str, Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute logits [T, V], (diag p - p p') J v [T, V] with v = ``tangents``, and v' J' (diag p - p p') J v [T]."""
    with forward_ad.dual_level():
        duals = {name: forward_ad.make_dual(weight, tangents[name]) for name, weight in weights.items()}
        logits_TV, jvp_TV = forward_ad.unpack_dual(model.logits(duals, row))
    assert jvp_TV is not None, "the logits do not depend on the weights that are examined"
    with torch.no_grad():
        probability_TV = logits_TV.softmax(-1)
        product_TV = probability_TV * (jvp_TV - (probability_TV * jvp_TV).sum(-1, keepdim=True))
        return logits_TV, product_TV, (product_TV * jvp_TV).sum(-1)


def fisher_product(model: FunctionalModel[RowT], weights: Weights, row: RowT, tangents: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Compute a row's term of F v, summed over its tokens: exact, by one forward-mode pass along v and one reverse-mode pass."""
    variables = {name: weight.detach().requires_grad_() for name, weight in weights.items()}
    logits_TV, product_TV, _ = _compute_logit_products(model, variables, row, tangents)
    return dict(zip(variables, torch.autograd.grad(logits_TV, list(variables.values()), product_TV), strict=True))


def fisher_quadratic_forms(
    model: FunctionalModel[RowT], weights: Weights, rows: Sequence[RowT], tangents: Mapping[str, Tensor], tally: Tally
) -> Floats:
    """Compute each row's term [N] of v' F v, summed over its tokens."""
    forms: list[float] = []
    with torch.no_grad():
        for row in rows:
            forms.append(float(_compute_logit_products(model, weights, row, tangents)[2].double().sum()))
            tally.add(rows=1)
    return np.array(forms)


def make_fisher_operator(
    model: FunctionalModel[RowT], weights: Weights, rows: Sequence[RowT], coordinates: Coordinates, tally: Tally
) -> Callable[[Tensor], Tensor]:
    """Make the function from a vector [S] to each row's term [N, S] of its product with F."""

    def multiply(vector_S: Tensor) -> Tensor:
        tangents = coordinates.scatter(vector_S)
        products: list[Tensor] = []
        for row in rows:
            products.append(coordinates.gather(fisher_product(model, weights, row, tangents)))
            tally.add(rows=1)
        return torch.stack(products)

    return multiply


def lanczos(
    multiply: Callable[[Tensor], Tensor], tokens: int, first_S: Tensor, eigenvectors: int, iterations: int, tolerance: float = 0.01
) -> KrylovBasis:
    """Run Lanczos' method with full reorthogonalization (Golub and Van Loan, chapter 10), and keep each row's term of F.

    Args:
        multiply: made by ``make_fisher_operator``.
        tokens: M.
        first_S: any vector that is not orthogonal to the top eigenvectors.
        eigenvectors: number of top eigenvectors to find.
        iterations: maximal number of products.
        tolerance: stop once no requested eigenvector's residual is above this fraction of the largest eigenvalue.
    """
    iterations = min(iterations, first_S.numel())
    basis_KS = first_S.new_zeros(iterations, first_S.numel())
    basis_KS[0] = first_S / first_S.norm()
    columns: list[Floats] = []
    residuals: list[float] = []
    for number in range(1, iterations + 1):
        known_KS = basis_KS[:number]
        rows_NS = multiply(known_KS[-1])
        columns.append((rows_NS @ known_KS.T).double().cpu().numpy())
        rest_S = rows_NS.sum(0) / tokens
        for _ in range(2):  # one pass leaves rounding errors that the next products would amplify
            rest_S = rest_S - known_KS.T @ (known_KS @ rest_S)
        rest_norm = float(rest_S.norm())
        residuals = _compute_residuals(columns, tokens, rest_norm, eigenvectors)
        if number == iterations or (number >= eigenvectors and max(residuals) < tolerance) or not rest_norm:
            break
        basis_KS[number] = rest_S / rest_norm
    return KrylovBasis(basis_KS[: len(columns)], _assemble_symmetric(columns), residuals)


def _assemble_symmetric(columns: Sequence[Floats]) -> Floats:
    """Assemble [N, K, K] from each product's inner products with its own vector and the vectors before it."""
    size = len(columns)
    rows_NKK = np.zeros((len(columns[0]), size, size))
    for index, column_NK in enumerate(columns):
        rows_NKK[:, : index + 1, index] = column_NK
        rows_NKK[:, index, : index + 1] = column_NK
    return rows_NKK


def _compute_residuals(columns: Sequence[Floats], tokens: int, rest_norm: float, eigenvectors: int) -> list[float]:
    values_K, vectors_KK = np.linalg.eigh(_assemble_symmetric(columns).sum(0) / tokens)
    return (rest_norm * np.abs(vectors_KK[-1, ::-1][:eigenvectors]) / values_K[-1]).tolist()
