"""How the rows of a pack are kept apart in a given model, tried on the model itself.

Legend: T tokens of a pack, V vocabulary.
"""

from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from typing import Any, assert_never

import numpy as np
import torch
from torch import Tensor
from transformers import AttentionInterface

from delia_ray.models.families import Separation, find_separation, layer_types, text_config, windows
from delia_ray.training.attention import PACKED, NotHandedOnError, attend_rows, block_diagonal_mask
from delia_ray.training.packing import Pack, pack
from delia_ray.training.tokens import TokenisedRow

_TRIAL = "delia_packed_rows_trial"
_TRIES = 2
_ROW_TOKENS = 8
_LEAK_NATS = {torch.float32: 1e-3}
"""How much a token's cost may move when another row changes. Mixtures of experts group their tokens anew, which rounds otherwise."""
_LEAK_NATS_HALF = 0.1


def separate_rows(model: Any, forward: Any) -> Separation:
    """Let ``model`` keep rows apart as well as it can, and try it: two rows of a pack must not know of each other.

    A model whose rows still do, by a convolution or a state that runs on, or whose layers do not hand on how far back they see or where
    rows begin, gets one row a forward pass.

    Args:
        forward: (model's input arguments) -> [T, V] logits.
    """
    found, own = find_separation(model), model.config._attn_implementation
    if found == "single":
        return found
    seen_windows: list[int | None] = []
    if found == "packed":
        AttentionInterface.register(_TRIAL, partial(attend_rows, seen_windows=seen_windows))
        model.set_attn_implementation(_TRIAL)
    with _evaluating(model):
        try:
            separate = _is_separate(model, found, forward)
        except NotHandedOnError:
            separate = False
    if found == "packed":
        separate = separate and Counter(seen_windows) == Counter(_TRIES * windows(model))
        model.set_attn_implementation(PACKED if separate else own)
    return found if separate else "single"


def separating_arguments(model: Any, separation: Separation, packed: Pack) -> dict[str, Any]:
    """The arguments of the model's forward pass that keep the rows of ``packed`` apart; none for a row by itself."""
    match separation:
        case "packed":
            return {"row_lengths": packed.row_lengths, "prefix_length": packed.prefix_length, "position_ids": _positions(model, packed)}
        case "masked":
            return {"attention_mask": _masks(model, packed), "position_ids": _positions(model, packed)}
        case "single":
            return {}
        case _:
            assert_never(separation)


def _positions(model: Any, packed: Pack) -> Tensor:
    return torch.from_numpy(packed.positions_T).to(model.device)[None]


def _masks(model: Any, packed: Pack) -> Tensor | dict[str, Tensor]:
    """A mask for each kind of layer, where the architecture has several."""

    def mask(window: int | None) -> Tensor:
        return block_diagonal_mask(packed.row_lengths, packed.prefix_length, model.dtype, model.device, window)

    by_kind = dict(zip(layer_types(model), windows(model), strict=True))
    if getattr(text_config(model), "layer_types", None) and "sliding_attention" in by_kind:
        return {kind: mask(window) for kind, window in by_kind.items()}
    return mask(next(iter(by_kind.values())))


def _is_separate(model: Any, separation: Separation, forward: Any) -> bool:
    """Whether the second row's logits stay when the first row is another."""
    vocabulary = model.get_input_embeddings().weight.shape[0]
    first, other, second = np.random.default_rng(0).integers(vocabulary, size=(3, _ROW_TOKENS))
    logits: list[Tensor] = []
    for before in (first, other):
        packed = pack([TokenisedRow(ids.tolist(), [1] * _ROW_TOKENS, "task") for ids in (before, second)])
        logits.append(forward(packed, separation)[_ROW_TOKENS - 1 :].float().log_softmax(-1))
    moved = float((logits[0] - logits[1]).abs().max())
    return moved <= _LEAK_NATS.get(model.dtype, _LEAK_NATS_HALF)


@contextmanager
def _evaluating(model: Any) -> Generator[None]:
    """Without dropout and without gradients."""
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)
