"""Training objectives: supervised fine-tuning, KL to the base model, and NEFTune, as a loss per supervised token (docs/method.md, Arms).

Legend: T tokens of a pack, S supervised tokens of a pack, V vocabulary, D hidden size.
"""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from delia_ray.models.families import PackingMode
from delia_ray.placement import Kernels
from delia_ray.training.config import Kl, Neftune, Objective, Sft
from delia_ray.training.data.packing import GROUPS, Pack, pack, single_rows
from delia_ray.training.data.tokens import TokenizedRow
from delia_ray.training.kernels.attention_registration import build_packing_arguments, enable_packing
from delia_ray.training.kernels.select import load_attention, load_loss
from delia_ray.training.model import Trainable
from delia_ray.training.zero3 import gather_layer_by_layer
from delia_ray.upstream.transformers_models import get_attention

_LIBRARIES = Kernels(attention="torch", lora="peft", loss="torch")
"""The libraries' own code."""


def is_stochastic(trainable: Trainable, objective: Objective) -> bool:
    """Whether the loss is random in training: by NEFTune's noise, or by a dropout of the adapter or of the model.

    A model has its dropouts, or the jitter of a router, as modules or as numbers in its configuration. One that is never applied counts
    too: rows then share no prefix, which is slower but correct.
    """
    modules, options = trainable.model.modules(), trainable.model.config.get_text_config().to_dict().items()
    return (
        isinstance(objective, Neftune)
        or any(isinstance(module, nn.Dropout) and module.p > 0 for module in modules)
        or any(("drop" in name or "jitter" in name) and isinstance(value, int | float) and value > 0 for name, value in options)
    )


class TokenLoss(nn.Module):
    """Loss of each supervised token of a pack under ``objective``; logits are computed at the supervised positions only.

    Args:
        kernels: which code computes attention and losses, with ``auto`` resolved.

    Attributes:
        packing_mode: how the model keeps the rows of a pack from attending to each other.
        compute_losses: ([S, V] logits, [S] targets) -> [S] losses.
        rows: the new token embeddings; checkpoints of a running training hold their parameters under this name.
    """

    def __init__(self, trainable: Trainable, objective: Objective, kernels: Kernels = _LIBRARIES):
        super().__init__()
        self.model = trainable.model
        self.rows = trainable.new_token_embeddings
        self._objective = objective
        self.compute_losses = load_loss(kernels)
        self._pack: Pack | None = None
        # A hook that selects positions before the output head keeps whatever the architecture does to its logits afterwards.
        self._hooks = [self.model.get_output_embeddings().register_forward_pre_hook(self._select_supervised)]
        self._attention = get_attention(self.model)
        with gather_layer_by_layer(self.model):
            self.packing_mode: PackingMode = enable_packing(self.model, self._run_model, load_attention(kernels))
        if isinstance(objective, Neftune):
            self._hooks.append(self.model.get_input_embeddings().register_forward_hook(self._add_neftune_noise))

    def release(self) -> None:
        """Leave the model as it was before, so that it can be run by itself."""
        for hook in self._hooks:
            hook.remove()
        if get_attention(self.model) != self._attention:
            self.model.set_attn_implementation(self._attention)

    def forward(self, pack: Pack) -> Tensor:
        """[S] losses in nats, float32, in the order of ``pack.targets_S``."""
        logits_SV = self._compute_logits(pack)
        targets_S = torch.from_numpy(pack.targets_S).to(logits_SV.device)
        losses_S = self.compute_losses(logits_SV, targets_S)
        match self._objective:
            case Kl(beta=beta):
                return self._replace_diverse_with_kl(losses_S, logits_SV, pack, beta)
            case _:
                return losses_S

    def _replace_diverse_with_kl(self, losses_S: Tensor, logits_SV: Tensor, pack: Pack, beta: float) -> Tensor:
        """[S] ``losses_S`` with beta * KL(base || trained) in place of the diverse tokens' cross-entropy."""
        diverse = np.flatnonzero(pack.groups_S == GROUPS.index("diverse"))
        if not len(diverse):
            return losses_S
        diverse_S = torch.from_numpy(diverse).to(logits_SV.device)
        with torch.no_grad(), self._use_base_model():
            base_SV = self._compute_logits(pack)[diverse_S].float().log_softmax(-1)
        trained_SV = logits_SV[diverse_S].float().log_softmax(-1)
        kl_S = nn.functional.kl_div(trained_SV, base_SV, log_target=True, reduction="none").sum(-1)
        return losses_S.index_copy(0, diverse_S, beta * kl_S)

    @contextmanager
    def _use_base_model(self) -> Generator[None]:
        """Disable the adapter and the new token embeddings while the block runs, so that the model is the base model."""
        new_token_embeddings = self.rows
        with self.model.disable_adapter():
            try:
                if new_token_embeddings is not None:
                    new_token_embeddings.active = False
                yield
            finally:
                if new_token_embeddings is not None:
                    new_token_embeddings.active = True

    def _compute_logits(self, pack: Pack) -> Tensor:
        """[S, V] in the model's precision; one forward pass per row if the model cannot keep packed rows apart."""
        if self.packing_mode != "single":
            return self._run_model(pack, self.packing_mode)
        return torch.cat([self._run_model(row, "single") for row in single_rows(pack)])

    def _run_model(self, pack: Pack, packing_mode: PackingMode) -> Tensor:
        """[S, V] logits of one forward pass."""
        self._pack = pack
        ids_1T = torch.from_numpy(pack.ids_T).to(self.model.device)[None]
        arguments = build_packing_arguments(self.model, packing_mode, pack)
        return self.model(input_ids=ids_1T, use_cache=False, **arguments).logits.squeeze(0)

    def _select_supervised(self, module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Keep only the hidden states that predict a supervised token (a forward pre-hook of the output head)."""
        assert self._pack is not None, "the head ran outside TokenLoss.forward"
        return (args[0][:, torch.from_numpy(self._pack.predicts_S).to(args[0].device)], *args[1:])

    def _add_neftune_noise(self, module: nn.Module, args: tuple[Tensor, ...], embedded_1TD: Tensor) -> Tensor:
        """[1, T, D] embeddings with uniform noise, scaled by each row's length (a forward hook of the input embeddings)."""
        assert isinstance(self._objective, Neftune) and self._pack is not None and not self._pack.prefix_length
        lengths = np.array(self._pack.row_lengths)
        magnitude = self._objective.alpha / np.sqrt(lengths * embedded_1TD.shape[-1], dtype=np.float32)
        magnitude_T = torch.from_numpy(np.repeat(magnitude, lengths)).to(embedded_1TD.device)
        noise_1TD = torch.rand_like(embedded_1TD, dtype=torch.float32) * 2 - 1
        return embedded_1TD + (noise_1TD * magnitude_T[:, None]).to(embedded_1TD.dtype)


def trained_token_losses(trainable: Trainable, rows: Sequence[TokenizedRow]) -> list[float]:
    """Cross-entropy, in nats, of each supervised token of ``rows`` in the training stack, with all rows in one pack.

    The model is the same before and after.
    """
    trainable.model.eval()
    loss = TokenLoss(trainable, Sft())
    try:
        with torch.inference_mode():
            return loss(pack(rows)).tolist() if rows else []
    finally:
        loss.release()


def merged_token_losses(model: Any, rows: Sequence[TokenizedRow]) -> list[float]:
    """The same losses of a plain transformers model, row by row from all logits, without any code of the training stack."""
    model.eval()
    losses: list[float] = []
    for row in rows:
        with torch.inference_mode():
            logits_TV = model(input_ids=torch.tensor([list(row.ids)], device=model.device), use_cache=False).logits[0].float()
        losses_T = nn.functional.cross_entropy(logits_TV[:-1], torch.tensor(list(row.ids[1:]), device=model.device), reduction="none")
        losses += [loss for loss, kind in zip(losses_T.tolist(), row.kinds[1:], strict=True) if kind]
    return losses
