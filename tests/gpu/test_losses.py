"""Both paths of cross-entropy at a vocabulary of 256,000."""

import pytest
import torch

from benchmarks.gpu.losses import compute_with_gradient, draw_logits, measure_extra_memory

VOCABULARY = 256_000
TOKENS = {"cpu": 5, "cuda": 3000}
"""On a GPU twelve chunks, the last one smaller."""
ONE_ULP = {torch.float32: 2.0**-23, torch.bfloat16: 2.0**-7}
"""Largest relative distance of two neighboring numbers of a precision."""


def draw(device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    return draw_logits(TOKENS[device.type], VOCABULARY, torch.bfloat16 if device.type == "cuda" else torch.float32, device)


def test_both_paths_have_the_same_losses_and_gradients(device: torch.device) -> None:
    logits_SV, targets_S = draw(device)
    losses_S, gradient_SV = compute_with_gradient("torch", logits_SV, targets_S)
    chunked_S, chunked_SV = compute_with_gradient("chunked", logits_SV, targets_S)
    # Both compute in float32, from the same logits; each sum of 256,000 terms may be in another order.
    torch.testing.assert_close(chunked_S, losses_S, rtol=1e-5, atol=0)
    assert chunked_SV.dtype == gradient_SV.dtype == logits_SV.dtype
    # Each is rounded once, so they may be neighbors.
    torch.testing.assert_close(chunked_SV, gradient_SV, rtol=max(1e-5, ONE_ULP[logits_SV.dtype]), atol=1e-12)


def test_the_losses_are_those_of_float64(device: torch.device) -> None:
    logits_SV, targets_S = draw(device)
    rows = [0, len(targets_S) // 2, len(targets_S) - 1]
    exact = torch.nn.functional.cross_entropy(logits_SV[rows].double(), targets_S[rows], reduction="none")
    for path in ("torch", "chunked"):
        losses_S, _ = compute_with_gradient(path, logits_SV, targets_S)
        torch.testing.assert_close(losses_S[rows].double(), exact, rtol=1e-5, atol=0)


@pytest.mark.gpu
def test_the_chunked_path_takes_less_than_half_of_the_memory(gpu: torch.device) -> None:
    logits_SV, targets_S = draw(gpu)
    memory = {path: measure_extra_memory(path, logits_SV, targets_S) for path in ("torch", "chunked")}
    assert memory["chunked"] < memory["torch"] / 2, memory
