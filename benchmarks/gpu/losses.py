"""Cross-entropy of a large vocabulary: torch's path and the chunked one, with their times and peak memory.

    python -m benchmarks.gpu.losses --device cuda loss/256000/torch loss/256000/chunked

Legend: S supervised tokens, V vocabulary.
"""

from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor

from benchmarks.gpu.child import Figures, get_peak_gib, get_total_gib, reset_peak, run_cases, time_calls
from delia_ray.placement import Kernels
from delia_ray.training.kernels.select import load_loss

VOCABULARIES = (256_000, 128_256)
"""Of Gemma-7B, and of Llama-3-8B."""
PATHS = ("torch", "chunked")
CASES = tuple(f"loss/{vocabulary}/{path}" for vocabulary in VOCABULARIES for path in PATHS)
_TOKENS = {"cuda": 4096, "cpu": 16}
_BYTES_OF_A_LOGIT = 24
"""On torch's path: two of the logits, four of each of four copies in float32, two of their gradient, and a reserve."""
_WARM_CALLS, _TIMED_CALLS = 1, 5


def load_path(path: str) -> Callable[[Tensor, Tensor], Tensor]:
    """The function ([S, V] logits, [S] targets) -> [S] losses that training uses with ``kernels.loss`` set to ``path``."""
    return load_loss(Kernels.model_validate({"loss": path}))


def count_tokens(vocabulary: int, device: torch.device) -> int:
    """As many tokens as torch's path has memory for, up to a pack's."""
    return min(_TOKENS[device.type], int(get_total_gib(device) * 2**30 * 0.8 / (vocabulary * _BYTES_OF_A_LOGIT)))


def draw_logits(tokens: int, vocabulary: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Draw [S, V] logits that want gradients, of the size of a model's, and [S] targets."""
    generator = torch.Generator(device).manual_seed(0)
    logits_SV = torch.randn(tokens, vocabulary, generator=generator, dtype=dtype, device=device).mul_(4)
    return logits_SV.requires_grad_(), torch.randint(vocabulary, (tokens,), generator=generator, device=device)


def compute_with_gradient(path: str, logits_SV: Tensor, targets_S: Tensor) -> tuple[Tensor, Tensor]:
    """[S] losses, and the [S, V] gradient of their mean with respect to the logits."""
    losses_S = load_path(path)(logits_SV, targets_S)
    (gradient_SV,) = torch.autograd.grad(losses_S.mean(), logits_SV)
    return losses_S.detach(), gradient_SV


def measure_extra_memory(path: str, logits_SV: Tensor, targets_S: Tensor) -> float | None:
    """GiB that a forward and backward pass takes at its peak beside the logits, their gradient included; None on a CPU."""
    device = logits_SV.device
    reset_peak(device)
    held = get_peak_gib(device)
    compute_with_gradient(path, logits_SV, targets_S)
    peak = get_peak_gib(device)
    return None if held is None or peak is None else round(peak - held, 2)


def measure(case: str, device: torch.device) -> Figures:
    """Milliseconds of a forward and backward pass, and its peak memory beside the logits."""
    _, vocabulary, path = case.split("/")
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    tokens = count_tokens(int(vocabulary), device)
    logits_SV, targets_S = draw_logits(tokens, int(vocabulary), dtype, device)
    seconds = time_calls(lambda: compute_with_gradient(path, logits_SV, targets_S), device, _WARM_CALLS + _TIMED_CALLS)
    extra = measure_extra_memory(path, logits_SV, targets_S)
    logits_gib = round(logits_SV.nbytes / 2**30, 2)
    return {"tokens": tokens, "ms": round(1000 * median(seconds[_WARM_CALLS:]), 2), "logits_gib": logits_gib, "extra_gib": extra}


if __name__ == "__main__":
    run_cases(measure)
