"""Token-level KL divergence of next-token distributions, from log-probabilities (docs/method.md, Retention).

Shape legend: T tokens of one answer, V vocabulary.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

_SUM_TOLERANCE = 1e-2  # probabilities from float32 sum to 1 with far smaller errors than this, exponentiated logits do not


def token_kl(logp_base_TV: NDArray[np.floating[Any]], logp_tuned_TV: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """``[T]`` KL(base || tuned) in nats of the next-token distributions, at each token of one text.

    Computed in float64 from natural-log probabilities of the same shape. A token to which the base gives probability 0 adds
    nothing, so columns of tokens that only the tuned vocabulary has may be dropped after its log-softmax without changing the result.
    Where only the tuned model gives probability 0, the divergence is infinite. Rounding errors below 0 are clipped to 0.
    """
    assert logp_base_TV.shape == logp_tuned_TV.shape, f"{logp_base_TV.shape} and {logp_tuned_TV.shape} log-probabilities"
    base_TV, tuned_TV = logp_base_TV.astype(np.float64), logp_tuned_TV.astype(np.float64)
    probability_TV = np.exp(base_TV)
    assert np.all(np.abs(probability_TV.sum(axis=-1) - 1) < _SUM_TOLERANCE), "the base's rows are not log-probabilities"
    assert np.all(np.exp(tuned_TV).sum(axis=-1) < 1 + _SUM_TOLERANCE), "the tuned model's rows are not log-probabilities"
    log_ratio_TV = np.subtract(base_TV, tuned_TV, out=np.zeros_like(base_TV), where=probability_TV > 0)
    return np.maximum((probability_TV * log_ratio_TV).sum(axis=-1), 0.0)
