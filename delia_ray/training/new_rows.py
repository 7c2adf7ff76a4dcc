"""The new tokens' own embedding rows, trained directly while the rest of the table is frozen.

The table itself is never copied or changed: a lookup of a new token answers with the trained row, scaled as the embedding scales its
own, and the logit of a new token is the hidden state times the trained (output) row. Under tied embeddings both are the same parameter.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from delia_ray.models.families import embedding_scale, head_scores


class NewRows(nn.Module):
    """Stands in for rows ``token_ids`` of the input and output embeddings of ``model`` while it trains.

    Attributes:
        input_ND: [N, D] rows of the input embedding.
        output_ND: [N, D] rows of the output embedding; the same parameter when the model ties them.
        active: whether the trained rows answer; the table's own do otherwise.
    """

    def __init__(self, model: Any, token_ids: Sequence[int]):
        super().__init__()
        self.active = True
        self._scale = embedding_scale(model)
        table: Tensor = model.get_input_embeddings().weight
        head: Tensor = model.get_output_embeddings().weight
        self._ids = list(token_ids)
        self.input_ND = nn.Parameter(table[self._ids].detach().clone())
        tied = head.data_ptr() == table.data_ptr()
        self.output_ND = self.input_ND if tied else nn.Parameter(head[self._ids].detach().clone())
        model.get_input_embeddings().register_forward_hook(self._look_up)
        model.get_output_embeddings().register_forward_hook(self._score)

    def _look_up(self, module: nn.Module, args: tuple[Tensor, ...], embedded: Tensor) -> Tensor:
        for row, token in enumerate(self._ids if self.active else ()):
            scaled_D = self.input_ND[row].to(embedded.dtype) * self._scale
            embedded = torch.where((args[0] == token).unsqueeze(-1), scaled_D, embedded)
        return embedded

    def _score(self, module: nn.Module, args: tuple[Tensor, ...], logits: Tensor) -> Tensor:
        if not self.active:
            return logits
        scores = head_scores(module, args[0], self.output_ND, self._ids)
        return logits.index_copy_(-1, torch.tensor(self._ids, device=logits.device), scores.to(logits.dtype))


def write_rows(rows: Mapping[str, Tensor], model: Any, token_ids: Sequence[int]) -> None:
    """Put trained rows, by their names in ``NewRows``, into the tables of ``model``."""
    with torch.no_grad():
        for table, name in ((model.get_input_embeddings().weight, "input_ND"), (model.get_output_embeddings().weight, "output_ND")):
            table[list(token_ids)] = rows[name].to(table.dtype)
