"""One row of the task as it will be trained on, and which of its tokens are supervised."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from delia_ray.training.data.tokens import TokenizedRow


@dataclass(frozen=True)
class Segment:
    """Consecutive tokens that are all supervised, or all masked."""

    text: str
    is_supervised: bool


def show_mask(tokenizer: Any, row: TokenizedRow) -> Sequence[Segment]:
    """Divide a row's text by its loss mask. The first token is masked in any case: nothing predicts it."""
    kinds = [0, *list(row.kinds)[1:]]
    runs = groupby(zip(row.ids, kinds, strict=True), key=lambda token: token[1] > 0)
    return [Segment(_decode(tokenizer, [token for token, _ in tokens]), is_supervised) for is_supervised, tokens in runs]


def _decode(tokenizer: Any, ids: list[int]) -> str:
    return tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
