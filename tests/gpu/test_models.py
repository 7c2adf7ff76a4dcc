"""Losses of packed rows in whole models equal those that transformers computes of each row alone."""

import pytest
import torch
from torch import Tensor

from benchmarks.gpu.shapes import SHAPES, build_model, build_model_config
from benchmarks.gpu.training import build_random_rows
from delia_ray.training.config import Sft
from delia_ray.training.data.packing import pack
from delia_ray.training.data.tokens import TokenizedRow
from delia_ray.training.model import Trainable
from delia_ray.training.objective import TokenLoss, merged_token_losses

FACTOR, SMALLEST = 3.0, 2e-5
"""Times the root mean square error of transformers' own losses in the same precision, as in ``test_attention``; and in float32."""


def compute_packed_losses(model: object, rows: list[TokenizedRow]) -> tuple[str, Tensor]:
    loss = TokenLoss(Trainable(model, None, "full"), Sft())
    with torch.inference_mode():
        return loss.packing_mode, loss(pack(rows)).cpu()


def root_mean_square(differences: Tensor) -> float:
    return float(differences.square().mean().sqrt())


@pytest.mark.parametrize("shape", SHAPES)
def test_packed_losses_are_those_of_transformers_row_by_row(device: torch.device, shape: str) -> None:
    config, dtype = build_model_config(shape, tiny=True), torch.bfloat16 if device.type == "cuda" else torch.float32
    rows = build_random_rows(config.vocab_size, 400, (4, 40))
    exact = torch.tensor(merged_token_losses(build_model(config, dtype, device).float(), rows))
    own = torch.tensor(merged_token_losses(build_model(config, dtype, device), rows))
    mode, packed = compute_packed_losses(build_model(config, dtype, device).eval(), rows)
    assert mode == "packed"
    assert root_mean_square(packed - exact) <= max(FACTOR * root_mean_square(own - exact), SMALLEST)
    _, joined = compute_packed_losses(build_model(config, dtype, device).eval(), [join(rows)])
    assert root_mean_square(joined - exact) > 10 * max(FACTOR * root_mean_square(own - exact), SMALLEST)


def join(rows: list[TokenizedRow]) -> TokenizedRow:
    """One row of all, in which each would see those before it."""
    return TokenizedRow([i for row in rows for i in row.ids], [kind for row in rows for kind in row.kinds], "task")
