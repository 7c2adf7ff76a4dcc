"""Embeddings of the new tokens, trained as separate parameters while the rest of the embedding matrices is frozen.

The matrices themselves are neither copied nor changed: forward hooks replace the embedding of a new token by the trained row, scaled as
the embedding layer scales its own rows, and the logit of a new token by the hidden state times the trained output row. With tied
embeddings both are the same parameter.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from delia_ray.models.families import compute_token_logits, embedding_scale
from delia_ray.upstream.deepspeed_zero import gather
from delia_ray.upstream.torch_internals import has_data


class NewTokenEmbeddings(nn.Module):
    """Trainable copies of rows ``token_ids`` of the input and output embeddings of ``model``, used in their place by forward hooks.

    Attributes:
        input_ND: [N, D] rows of the input embedding.
        output_ND: [N, D] rows of the output embedding; the same parameter when the model ties them.
        active: whether the trained rows are used; otherwise the rows of the model's own matrices are.
    """

    def __init__(self, model: Any, token_ids: Sequence[int]):
        super().__init__()
        self.active = True
        embedding: Tensor = model.get_input_embeddings().weight
        head: Tensor = model.get_output_embeddings().weight
        self._ids = list(token_ids)
        with gather([embedding] if head is embedding else [embedding, head]):
            self._scale = embedding_scale(model)
            self.input_ND = nn.Parameter(embedding[self._ids].detach().clone())
            tied = head is embedding or (has_data(head) and head.data_ptr() == embedding.data_ptr())
            self.output_ND = self.input_ND if tied else nn.Parameter(head[self._ids].detach().clone())
        model.get_input_embeddings().register_forward_hook(self._replace_embeddings)
        model.get_output_embeddings().register_forward_hook(self._replace_logits)

    def _replace_embeddings(self, module: nn.Module, args: tuple[Tensor, ...], embedded: Tensor) -> Tensor:
        for row, token in enumerate(self._ids if self.active else ()):
            scaled_D = self.input_ND[row].to(embedded.dtype) * self._scale
            embedded = torch.where((args[0] == token).unsqueeze(-1), scaled_D, embedded)
        return embedded

    def _replace_logits(self, module: nn.Module, args: tuple[Tensor, ...], logits: Tensor) -> Tensor:
        if not self.active:
            return logits
        new_logits = compute_token_logits(module, args[0], self.output_ND, self._ids)
        return logits.index_copy_(-1, torch.tensor(self._ids, device=logits.device), new_logits.to(logits.dtype))


def write_embeddings(embeddings: Mapping[str, Tensor], model: Any, token_ids: Sequence[int]) -> None:
    """Copy trained embeddings, by their names in ``NewTokenEmbeddings``, into the embedding matrices of ``model``."""
    with torch.no_grad():
        for weight, name in ((model.get_input_embeddings().weight, "input_ND"), (model.get_output_embeddings().weight, "output_ND")):
            weight[list(token_ids)] = embeddings[name].to(weight.dtype)
