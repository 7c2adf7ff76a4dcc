"""What a pack's learnt tokens cost: supervised fine-tuning, and the objectives it is compared with (METHOD 6).

Legend: T tokens of a pack, S learnt tokens of a pack, V vocabulary, D hidden size.
"""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from delia_ray.models.families import Separation
from delia_ray.training.config import Kl, Neftune, Objective, Sft
from delia_ray.training.cross_entropy import token_costs
from delia_ray.training.model import Trainable
from delia_ray.training.packing import GROUPS, Pack, pack, single_rows
from delia_ray.training.separation import separate_rows, separating_arguments
from delia_ray.training.tokens import TokenisedRow


def draws_noise(trainable: Trainable, objective: Objective) -> bool:
    """Whether each token draws at random while training: NEFTune, or a dropout, the adapter's or the model's own.

    A model keeps a dropout, or the jitter of a router, as a module or as a number of its configuration. One that is never used counts,
    too: it costs speed, not truth.
    """
    modules, numbers = trainable.model.modules(), trainable.model.config.get_text_config().to_dict().items()
    return (
        isinstance(objective, Neftune)
        or any(isinstance(module, nn.Dropout) and module.p > 0 for module in modules)
        or any(("drop" in name or "jitter" in name) and isinstance(number, int | float) and number > 0 for name, number in numbers)
    )


class TokenLoss(nn.Module):
    """The cost of each learnt token, with logits computed at those positions only.

    Attributes:
        separation: how the rows of a pack are kept apart.
    """

    def __init__(self, trainable: Trainable, objective: Objective):
        super().__init__()
        self.model = trainable.model
        self.rows = trainable.rows
        self._objective = objective
        self._pack: Pack | None = None
        # Selecting before the head, by a hook, keeps whatever the architecture does to its logits afterwards.
        self.model.get_output_embeddings().register_forward_pre_hook(self._select)
        self.separation: Separation = separate_rows(self.model, self._one_pass)
        if isinstance(objective, Neftune):
            self.model.get_input_embeddings().register_forward_hook(self._add_noise)

    def forward(self, pack: Pack) -> Tensor:
        """[S] costs in nats, float32, in the order of ``pack.targets_S``."""
        logits_SV = self._logits(pack)
        targets_S = torch.from_numpy(pack.targets_S).to(logits_SV.device)
        costs_S = token_costs(logits_SV, targets_S)
        match self._objective:
            case Kl(beta=beta):
                return self._with_divergence(costs_S, logits_SV, pack, beta)
            case _:
                return costs_S

    def _with_divergence(self, costs_S: Tensor, logits_SV: Tensor, pack: Pack, beta: float) -> Tensor:
        """``costs_S`` with beta * KL(theta0 || theta) in place of the diverse tokens' cross-entropy."""
        diverse_S = torch.from_numpy(pack.groups_S == GROUPS.index("diverse")).to(logits_SV.device)
        if not diverse_S.any():
            return costs_S
        with torch.no_grad(), self._as_at_the_start():
            start_SV = self._logits(pack)[diverse_S].float().log_softmax(-1)
        tuned_SV = logits_SV[diverse_S].float().log_softmax(-1)
        kl_S = nn.functional.kl_div(tuned_SV, start_SV, log_target=True, reduction="none").sum(-1)
        return costs_S.masked_scatter(diverse_S, beta * kl_S)

    @contextmanager
    def _as_at_the_start(self) -> Generator[None]:
        """The model before training: its adapter and its new rows are switched off."""
        rows = self.rows
        with self.model.disable_adapter():
            try:
                if rows is not None:
                    rows.active = False
                yield
            finally:
                if rows is not None:
                    rows.active = True

    def _logits(self, pack: Pack) -> Tensor:
        """[S, V] in the model's precision."""
        if self.separation != "single":
            return self._one_pass(pack, self.separation)
        return torch.cat([self._one_pass(row, "single") for row in single_rows(pack)])

    def _one_pass(self, pack: Pack, separation: Separation) -> Tensor:
        self._pack = pack
        ids_1T = torch.from_numpy(pack.ids_T).to(self.model.device)[None]
        return self.model(input_ids=ids_1T, use_cache=False, **separating_arguments(self.model, separation, pack)).logits.squeeze(0)

    def _select(self, module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        assert self._pack is not None, "the head ran outside TokenLoss.forward"
        return (args[0][:, torch.from_numpy(self._pack.predicts_S).to(args[0].device)], *args[1:])

    def _add_noise(self, module: nn.Module, args: tuple[Tensor, ...], embedded_1TD: Tensor) -> Tensor:
        assert isinstance(self._objective, Neftune) and self._pack is not None and not self._pack.prefix_length
        lengths = torch.tensor(self._pack.row_lengths, device=embedded_1TD.device)
        reach_T = self._objective.alpha / (lengths * embedded_1TD.shape[-1]).sqrt().repeat_interleave(lengths)
        noise_1TD = torch.rand_like(embedded_1TD, dtype=torch.float32) * 2 - 1
        return embedded_1TD + (noise_1TD * reach_T[:, None]).to(embedded_1TD.dtype)


def trained_costs(trained: Trainable, rows: Sequence[TokenisedRow]) -> list[float]:
    """What each learnt token of ``rows`` costs in the training stack, all rows in one pack."""
    trained.model.eval()
    with torch.inference_mode():
        return TokenLoss(trained, Sft())(pack(rows)).tolist() if rows else []


def merged_costs(model: Any, rows: Sequence[TokenisedRow]) -> list[float]:
    """The same in a plain model, as its architecture computes it: row by row, all logits, nothing of this project in between."""
    model.eval()
    costs: list[float] = []
    for row in rows:
        with torch.inference_mode():
            logits_TV = model(input_ids=torch.tensor([list(row.ids)], device=model.device), use_cache=False).logits[0].float()
        costs_T = nn.functional.cross_entropy(logits_TV[:-1], torch.tensor(list(row.ids[1:]), device=model.device), reduction="none")
        costs += [cost for cost, kind in zip(costs_T.tolist(), row.kinds[1:], strict=True) if kind]
    return costs
