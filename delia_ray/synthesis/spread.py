"""How far apart texts lie as vectors. ``unit_ND`` are rows of length 1, so that a dot product is a cosine."""

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.float64]


def unit_rows(vectors_ND: NDArray[np.floating]) -> Rows:
    """[N, D] the rows scaled to length 1; a row of zeros stays one."""
    rows = np.asarray(vectors_ND, dtype=np.float64)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def vendi(unit_ND: Rows) -> float:
    """How many wholly different texts would be as diverse, 1 to N (Friedman and Dieng, arXiv 2210.02410, definition 3.1).

    The exponential of the von Neumann entropy of K / N, with the cosines as the kernel K: N where all rows are orthogonal,
    1 where all are the same.
    """
    count, dimensions = unit_ND.shape
    gram = unit_ND @ unit_ND.T if count <= dimensions else unit_ND.T @ unit_ND  # the eigenvalues that are not 0 are the same
    values = np.linalg.eigvalsh(gram / count)
    values = values[values > 1e-12]
    return float(np.exp(-(values * np.log(values)).sum()))


def mean_distance(unit_ND: Rows) -> float:
    """Mean of 1 - cosine over all pairs of two texts, 0 to 2: 0 where all point one way, 1 where they are orthogonal.

    sum_(i != j) cos(i, j) is |sum_i u_i|^2 - sum_i |u_i|^2, so it takes no N x N table. 0 for one row.
    """
    count = len(unit_ND)
    if count < 2:
        return 0.0
    total_D = unit_ND.sum(0)
    return float(1 - (total_D @ total_D - (unit_ND**2).sum()) / (count * (count - 1)))


def nearest_cosines(unit_ND: Rows) -> NDArray[np.float64]:
    """[N] for each text, the cosine with the one most like it: near 1 where it has a twin. Empty for one row."""
    if len(unit_ND) < 2:
        return np.empty(0)
    cosines_NN = unit_ND @ unit_ND.T
    np.fill_diagonal(cosines_NN, -np.inf)
    return cosines_NN.max(1)


def plane(unit_ND: Rows) -> tuple[NDArray[np.float64], float]:
    """[N, 2] the rows along the two directions they differ most in (principal components), and the share of variance these hold.

    Each axis points to where its longest row is, so that the picture does not flip from one linear-algebra library to another.
    """
    centred_ND = unit_ND - unit_ND.mean(0)
    left, sizes, _ = np.linalg.svd(centred_ND, full_matrices=False)
    sides = np.zeros((len(unit_ND), 2))
    kept = min(2, len(sizes))
    sides[:, :kept] = left[:, :kept] * sizes[:kept]
    furthest = sides[np.abs(sides).argmax(0), np.arange(2)]
    total = float((sizes**2).sum())
    return sides * np.where(furthest < 0, -1, 1), float((sizes[:2] ** 2).sum()) / total if total > 1e-12 else 1.0
