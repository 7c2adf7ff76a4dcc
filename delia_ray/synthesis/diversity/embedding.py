"""Diversity measures of embedding vectors. ``unit_ND`` holds rows of length 1, so that a dot product is a cosine."""

import numpy as np
from numpy.typing import NDArray

UnitVectors = NDArray[np.float64]


def normalize_rows(vectors_ND: NDArray[np.floating]) -> UnitVectors:
    """Scale the rows to length 1: [N, D]. A row of zeros stays zero."""
    rows = np.asarray(vectors_ND, dtype=np.float64)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def vendi(unit_ND: UnitVectors) -> float:
    """Vendi score, 1 to N: the number of completely different texts that would be as diverse (Friedman and Dieng, arXiv 2210.02410,
    definition 3.1).

    It is the exponential of the von Neumann entropy of K / N, with the cosines as the kernel K: N where all rows are orthogonal,
    1 where all are the same.
    """
    count, dimensions = unit_ND.shape
    gram = unit_ND @ unit_ND.T if count <= dimensions else unit_ND.T @ unit_ND  # both have the same nonzero eigenvalues
    values = np.linalg.eigvalsh(gram / count)
    values = values[values > 1e-12]
    return float(np.exp(-(values * np.log(values)).sum()))


def mean_distance(unit_ND: UnitVectors) -> float:
    """Mean of 1 - cosine over all pairs of texts, 0 to 2: 0 where all point the same way, 1 where they are orthogonal.

    sum_(i != j) cos(i, j) is |sum_i u_i|^2 - sum_i |u_i|^2, so no N x N table is needed. 0 for one row.
    """
    count = len(unit_ND)
    if count < 2:
        return 0.0
    total_D = unit_ND.sum(0)
    return float(1 - (total_D @ total_D - (unit_ND**2).sum()) / (count * (count - 1)))


def nearest_cosines(unit_ND: UnitVectors) -> NDArray[np.float64]:
    """[N] cosine of each text with its nearest neighbor: near 1 for a near-duplicate. Empty for one row."""
    if len(unit_ND) < 2:
        return np.empty(0)
    cosines_NN = unit_ND @ unit_ND.T
    np.fill_diagonal(cosines_NN, -np.inf)
    return cosines_NN.max(1)


def project_to_plane(unit_ND: UnitVectors) -> tuple[NDArray[np.float64], float]:
    """Project the rows to their first two principal components: [N, 2], and the share of the variance that these explain.

    Each axis is oriented so that its row of largest magnitude is positive, so that the picture is not mirrored by another
    linear-algebra library.
    """
    centered_ND = unit_ND - unit_ND.mean(0)
    left_vectors, singular_values, _ = np.linalg.svd(centered_ND, full_matrices=False)
    points_N2 = np.zeros((len(unit_ND), 2))
    components = min(2, len(singular_values))
    points_N2[:, :components] = left_vectors[:, :components] * singular_values[:components]
    extremes = points_N2[np.abs(points_N2).argmax(0), np.arange(2)]
    total = float((singular_values**2).sum())
    explained = float((singular_values[:2] ** 2).sum()) / total if total > 1e-12 else 1.0
    return points_N2 * np.where(extremes < 0, -1, 1), explained
