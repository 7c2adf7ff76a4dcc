"""How far tuning moved the next-token distributions (METHOD 4, Retention).

Shape legend: T tokens of one answer, V vocabulary.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

_MASS_TOLERANCE = 1e-2  # float32 log-probabilities are far closer to a distribution than this, logits far from it


def kl_tokens(logp_base_TV: NDArray[np.floating[Any]], logp_tuned_TV: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """``[T]`` in nats: KL(base || tuned) of the next-token distributions, token by token along one text.

    Computed in float64 from natural-log probabilities of the same shape. Where the base gives a token no mass it adds
    nothing, so rows that only the tuned vocabulary has may be cut off after its log-softmax without changing the result.
    Where only the tuned model gives no mass the divergence is infinite. Rounding below 0 is lifted to 0.
    """
    assert logp_base_TV.shape == logp_tuned_TV.shape, f"{logp_base_TV.shape} and {logp_tuned_TV.shape} log-probabilities"
    base_TV, tuned_TV = logp_base_TV.astype(np.float64), logp_tuned_TV.astype(np.float64)
    mass_TV = np.exp(base_TV)
    assert np.all(np.abs(mass_TV.sum(axis=-1) - 1) < _MASS_TOLERANCE), "the base's rows are not log-probabilities"
    assert np.all(np.exp(tuned_TV).sum(axis=-1) < 1 + _MASS_TOLERANCE), "the tuned model's rows are not log-probabilities"
    ratio_TV = np.subtract(base_TV, tuned_TV, out=np.zeros_like(base_TV), where=mass_TV > 0)
    return np.maximum((mass_TV * ratio_TV).sum(axis=-1), 0.0)
