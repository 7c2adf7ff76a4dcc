"""Registration of the attention to packed rows in transformers, tested on the model itself, and what each packing mode passes to it.

Sequence packing without cross-contamination: Krell et al., arXiv 2107.02027.
Legend: S supervised tokens of a pack, V vocabulary.
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

from delia_ray.models.families import PackingMode, attention_windows, find_packing_mode, get_text_config, layer_types
from delia_ray.training.data.packing import Pack, pack
from delia_ray.training.data.tokens import TokenizedRow
from delia_ray.training.kernels.packed_attention import (
    AttendRows,
    MissingRowLengthsError,
    attend_packed_rows,
    block_diagonal_mask,
    divide_pack,
)
from delia_ray.upstream.deepspeed_zero import get_shape, is_on_disk
from delia_ray.upstream.torch_internals import has_data
from delia_ray.upstream.transformers_models import get_attention

_PACKED = "delia_packed_rows"
"""Name of ``attend_packed_rows`` in transformers' ``AttentionInterface``, before that of the function that it calls."""
_TEST = "delia_packed_rows_trial"
_TEST_PASSES = 2
_TEST_ROW_TOKENS = 8
_MAX_CHANGE_NATS = {torch.float32: 1e-3}
"""How much a log-probability may change when another row changes. Mixtures of experts regroup their tokens, which changes rounding."""
_MAX_CHANGE_NATS_HALF = 0.1


def enable_packing(model: Any, forward: Any, attend: AttendRows) -> PackingMode:
    """Set the attention of ``model`` for packed rows, test that the rows of a pack do not affect each other, and return the packing mode.

    The mode is ``single``, one row per forward pass, for a model whose rows still affect each other, through a convolution or a recurrent
    state, or whose layers do not pass their sliding window or the rows' lengths to their attention.

    Args:
        forward: (pack, packing mode) -> [S, V] logits at the supervised positions.
        attend: attends to packed rows.
    """
    mode, original_attention = find_packing_mode(model), get_attention(model)
    embedding: Tensor = model.get_input_embeddings().weight
    if not has_data(embedding) or is_on_disk(embedding):  # nothing can be tried; the mode is taken on trust
        return set_packed_attention(model, mode, attend)
    if mode == "single":
        return mode
    seen_windows: list[int | None] = []
    if mode == "packed":
        AttentionInterface.register(_TEST, partial(attend_packed_rows, attend=attend, seen_windows=seen_windows))
        model.set_attn_implementation(_TEST)
    with _evaluation_mode(model):
        try:
            works = not _has_cross_contamination(model, mode, forward)
        except MissingRowLengthsError:
            works = False
    if mode == "packed":
        works = works and Counter(seen_windows) == Counter(_TEST_PASSES * attention_windows(model))
        if works:
            return set_packed_attention(model, mode, attend)
        model.set_attn_implementation(original_attention)
    return mode if works else "single"


def set_packed_attention(model: Any, mode: PackingMode, attend: AttendRows) -> PackingMode:
    """Let ``model`` attend to packed rows with ``attend``, if ``mode`` is ``packed``; return the mode."""
    if mode == "packed":
        packed = f"{_PACKED}_{attend.__name__}"
        AttentionInterface.register(packed, partial(attend_packed_rows, attend=attend))
        model.set_attn_implementation(packed)
    return mode


def build_packing_arguments(model: Any, mode: PackingMode, packed: Pack) -> dict[str, Any]:
    """Build the arguments of the model's forward pass that keep the rows of ``packed`` apart; none for a single row."""
    match mode:
        case "packed":
            rows = divide_pack(packed.row_lengths, packed.prefix_length, model.device)
            return {"packed_rows": rows, "position_ids": _position_ids(model, packed)}
        case "masked":
            return {"attention_mask": _build_masks(model, packed), "position_ids": _position_ids(model, packed)}
        case "single":
            return {}
        case _:
            assert_never(mode)


def _position_ids(model: Any, packed: Pack) -> Tensor:
    return torch.from_numpy(packed.positions_T).to(model.device)[None]


def _build_masks(model: Any, packed: Pack) -> Tensor | dict[str, Tensor]:
    """Build the block-diagonal mask, or one for each type of layer where the architecture has several."""

    def mask(window: int | None) -> Tensor:
        return block_diagonal_mask(packed.row_lengths, packed.prefix_length, model.dtype, model.device, window)

    window_of_type = dict(zip(layer_types(model), attention_windows(model), strict=True))
    if getattr(get_text_config(model), "layer_types", None) and "sliding_attention" in window_of_type:
        return {layer_type: mask(window) for layer_type, window in window_of_type.items()}
    return mask(next(iter(window_of_type.values())))


def _has_cross_contamination(model: Any, mode: PackingMode, forward: Any) -> bool:
    """Whether the second row's log-probabilities change when the first row is another."""
    vocabulary = get_shape(model.get_input_embeddings().weight)[0]
    first, other, second = np.random.default_rng(0).integers(vocabulary, size=(3, _TEST_ROW_TOKENS))
    log_probs: list[Tensor] = []
    for previous in (first, other):
        packed = pack([TokenizedRow(ids.tolist(), [1] * _TEST_ROW_TOKENS, "task") for ids in (previous, second)])
        log_probs.append(forward(packed, mode)[_TEST_ROW_TOKENS - 1 :].float().log_softmax(-1))
    change = float((log_probs[0] - log_probs[1]).abs().max())
    return not change <= _MAX_CHANGE_NATS.get(model.dtype, _MAX_CHANGE_NATS_HALF)  # also for NaN


@contextmanager
def _evaluation_mode(model: Any) -> Generator[None]:
    """Run the block without dropout and without gradients."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)
