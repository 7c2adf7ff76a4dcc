"""Token losses of a pack: plain supervised fine-tuning on the answer's tokens."""

from typing import Any

import torch
from torch import Tensor, nn

from delia_ray.training.packing import Pack


class AnswerLoss(nn.Module):
    """Cross-entropy of each learnt token, with logits computed at those positions only."""

    def __init__(self, model: Any):
        super().__init__()
        self.model = model
        self._predicts_S: Tensor | None = None
        # Selecting before the head, by a hook, keeps whatever the architecture does to its logits afterwards.
        model.get_output_embeddings().register_forward_pre_hook(self._select)

    def forward(self, pack: Pack) -> Tensor:
        """[S] losses in nats, float32, in the order of ``pack.targets_S``."""
        device = self.model.device
        self._predicts_S = torch.from_numpy(pack.predicts_S).to(device)
        output = self.model(
            input_ids=torch.from_numpy(pack.ids_T).to(device)[None],
            position_ids=torch.from_numpy(pack.positions_T).to(device)[None],
            attention_mask=block_diagonal_mask(torch.from_numpy(pack.row_T).to(device), self.model.dtype),
            use_cache=False,
        )
        return nn.functional.cross_entropy(output.logits[0].float(), torch.from_numpy(pack.targets_S).to(device), reduction="none")

    def _select(self, module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        assert self._predicts_S is not None, "the head ran outside AnswerLoss.forward"
        return (args[0][:, self._predicts_S], *args[1:])


def block_diagonal_mask(row_T: Tensor, dtype: torch.dtype) -> Tensor:
    """[1, 1, T, T] additive mask: a token sees itself and what came before it in its own row."""
    causal_TT = torch.ones(len(row_T), len(row_T), dtype=torch.bool, device=row_T.device).tril()
    visible_TT = causal_TT & (row_T[:, None] == row_T[None, :])
    return torch.zeros_like(visible_TT, dtype=dtype).masked_fill(~visible_TT, torch.finfo(dtype).min)[None, None]
