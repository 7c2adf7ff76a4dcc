"""Token losses of a pack: plain supervised fine-tuning on the answer's tokens."""

from typing import Any

import torch
from torch import Tensor, nn

from delia_ray.training.attention import block_diagonal_mask, use_packed_attention
from delia_ray.training.packing import Pack


class AnswerLoss(nn.Module):
    """Cross-entropy of each learnt token, with logits computed at those positions only."""

    def __init__(self, model: Any):
        super().__init__()
        self.model = model
        self._attends_rows = use_packed_attention(model)
        self._predicts_S: Tensor | None = None
        # Selecting before the head, by a hook, keeps whatever the architecture does to its logits afterwards.
        model.get_output_embeddings().register_forward_pre_hook(self._select)

    def forward(self, pack: Pack) -> Tensor:
        """[S] losses in nats, float32, in the order of ``pack.targets_S``."""
        device = self.model.device
        self._predicts_S = torch.from_numpy(pack.predicts_S).to(device)
        separation = (
            {"row_lengths": pack.row_lengths}
            if self._attends_rows
            else {"attention_mask": block_diagonal_mask(pack.row_lengths, self.model.dtype, device)}
        )
        output = self.model(
            input_ids=torch.from_numpy(pack.ids_T).to(device)[None],
            position_ids=torch.from_numpy(pack.positions_T).to(device)[None],
            use_cache=False,
            **separation,
        )
        return nn.functional.cross_entropy(output.logits[0].float(), torch.from_numpy(pack.targets_S).to(device), reduction="none")

    def _select(self, module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        assert self._predicts_S is not None, "the head ran outside AnswerLoss.forward"
        return (args[0][:, self._predicts_S], *args[1:])

