"""The Fisher matrix of the diverse rows, as products with vectors, and its top eigenvectors.

F = 1/M sum_t J_t' (diag p_t - p_t p_t') J_t over the M learnt positions of all rows, where J_t is the Jacobian of the logits and p_t
their softmax: the expectation over the next token is taken in closed form, nothing is sampled. It equals the Gauss-Newton matrix
of the cross-entropy (Martens, arXiv 1412.1193, section 9), and the Hessian's expectation under the model's own answers (METHOD 2).

Legend: T learnt tokens of a row, V vocabulary, N rows, S sampled coordinates, K vectors of a basis.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.autograd import forward_ad

from delia_ray.probing.coordinates import Coordinates
from delia_ray.probing.gradients import Probed, RowT, Weights
from delia_ray.probing.raw import Floats
from delia_ray.progress import Tally


@dataclass(frozen=True)
class Basis:
    """An orthonormal basis of the space that repeated products with F span, and F within it."""

    vectors_KS: Tensor
    rows_NKK: Floats
    """Each row's share of F between the vectors, summed over its tokens."""
    residuals: Sequence[float]
    """|F y - lambda y| / lambda_1 of each wanted eigenvector y."""


def _pushed(model: Probed[RowT], weights: Weights, row: RowT, tangents: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """[T, V] logits and (diag p - p p') J v, with v = ``tangents``, and [T] v' J' (diag p - p p') J v."""
    with forward_ad.dual_level():
        duals = {name: forward_ad.make_dual(weight, tangents[name]) for name, weight in weights.items()}
        logits_TV, moved_TV = forward_ad.unpack_dual(model.logits(duals, row))
    assert moved_TV is not None, "the logits do not depend on the weights that are looked at"
    with torch.no_grad():
        mass_TV = logits_TV.softmax(-1)
        pulled_TV = mass_TV * (moved_TV - (mass_TV * moved_TV).sum(-1, keepdim=True))
        return logits_TV, pulled_TV, (pulled_TV * moved_TV).sum(-1)


def fisher_product(model: Probed[RowT], weights: Weights, row: RowT, tangents: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The row's share of F v, summed over its tokens: exact, by one pass forward along v and one backward."""
    free = {name: weight.detach().requires_grad_() for name, weight in weights.items()}
    logits_TV, pulled_TV, _ = _pushed(model, free, row, tangents)
    return dict(zip(free, torch.autograd.grad(logits_TV, list(free.values()), pulled_TV), strict=True))


def fisher_forms(model: Probed[RowT], weights: Weights, rows: Sequence[RowT], tangents: Mapping[str, Tensor], tally: Tally) -> Floats:
    """[N] each row's share of v' F v, summed over its tokens."""
    forms: list[float] = []
    with torch.no_grad():
        for row in rows:
            forms.append(float(_pushed(model, weights, row, tangents)[2].double().sum()))
            tally.add(rows=1)
    return np.array(forms)


def fisher_products(
    model: Probed[RowT], weights: Weights, rows: Sequence[RowT], coordinates: Coordinates, tally: Tally
) -> Callable[[Tensor], Tensor]:
    """From a vector [S] to each row's share [N, S] of its product with F."""

    def apply(vector_S: Tensor) -> Tensor:
        tangents = coordinates.scatter(vector_S)
        shares: list[Tensor] = []
        for row in rows:
            shares.append(coordinates.gather(fisher_product(model, weights, row, tangents)))
            tally.add(rows=1)
        return torch.stack(shares)

    return apply


def span(apply: Callable[[Tensor], Tensor], tokens: int, first_S: Tensor, wanted: int, iterations: int, tolerance: float = 0.01) -> Basis:
    """Lanczos' method with full reorthogonalisation (Golub and Van Loan, chapter 10), and what each row adds to it.

    Args:
        apply: as ``fisher_products`` gives it.
        tokens: M.
        first_S: any vector that is not orthogonal to what is looked for.
        wanted: top eigenvectors to find.
        iterations: most products.
        tolerance: stops once no wanted eigenvector's residual is above this share of the largest eigenvalue.
    """
    iterations = min(iterations, first_S.numel())
    basis_KS = first_S.new_zeros(iterations, first_S.numel())
    basis_KS[0] = first_S / first_S.norm()
    shares: list[Floats] = []
    residuals: list[float] = []
    for number in range(1, iterations + 1):
        known_KS = basis_KS[:number]
        rows_NS = apply(known_KS[-1])
        shares.append((rows_NS @ known_KS.T).double().cpu().numpy())
        rest_S = rows_NS.sum(0) / tokens
        for _ in range(2):  # once leaves rounding that the next products would blow up
            rest_S = rest_S - known_KS.T @ (known_KS @ rest_S)
        left = float(rest_S.norm())
        residuals = _residuals(shares, tokens, left, wanted)
        if number == iterations or (number >= wanted and max(residuals) < tolerance) or not left:
            break
        basis_KS[number] = rest_S / left
    return Basis(basis_KS[: len(shares)], _symmetric(shares), residuals)


def _symmetric(shares: Sequence[Floats]) -> Floats:
    """[N, K, K] from what each product gave: with itself and the vectors before it."""
    size = len(shares)
    rows_NKK = np.zeros((len(shares[0]), size, size))
    for place, share_NK in enumerate(shares):
        rows_NKK[:, : place + 1, place] = share_NK
        rows_NKK[:, place, : place + 1] = share_NK
    return rows_NKK


def _residuals(shares: Sequence[Floats], tokens: int, left: float, wanted: int) -> list[float]:
    values_K, vectors_KK = np.linalg.eigh(_symmetric(shares).sum(0) / tokens)
    return (left * np.abs(vectors_KK[-1, ::-1][:wanted]) / values_K[-1]).tolist()
