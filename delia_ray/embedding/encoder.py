"""Encoder that turns tables of texts into embedding vectors for cosine similarity.

Shape legend: N texts, D dimensions, B texts of a batch, T token positions.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from delia_ray.core.artifacts import Adopted
from delia_ray.core.errors import UserError
from delia_ray.embedding.config import Encoder, FolderEncoder, OwnEncoder
from delia_ray.models import adopt_model, load_encoder, load_tokenizer, resolve_dtype
from delia_ray.tasks.format_task import load_ordinary_texts

if TYPE_CHECKING:
    import torch

_MAX_TOKENS = 256
"""A longer text is cut here: its beginning says what it is about."""
_TOKENS_AT_ONCE = {"cpu": 1024, "cuda": 16384}
"""Tokens of a batch with its padding, by device; more was slower on a CPU."""


def adopt_encoder(config: Encoder | None, model: Adopted, key: str) -> Adopted | None:
    """Find the folder of the encoder that ``config`` names; None where ``config`` is None.

    Args:
        config: which encoder to use.
        model: the model that is fine-tuned, which ``OwnEncoder`` uses.
        key: name of the setting that holds ``config``, for the error message.

    Raises:
        UserError: the configured folder holds no encoder, or one that is not averaged over its tokens.
    """
    match config:
        case None:
            return None
        case OwnEncoder():
            return model
        case FolderEncoder(path=path):
            folder = path.expanduser().absolute()
            pooling = folder / "1_Pooling" / "config.json"
            if pooling.exists() and not json.loads(pooling.read_text(encoding="utf-8")).get("pooling_mode_mean_tokens", True):
                raise UserError(f"{key}.path: {folder} pools its tokens another way; name an encoder that takes their mean")
            return adopt_model(str(folder), f"{key}.path")


class Embedder:
    """Callable class for ``Dataset.map_batches``: adds a column ``vector`` of float32 lists to a table of texts.

    Loads its model once, in the constructor, so that an actor reuses it. A vector is the mean of the last layer's hidden states over
    the text's tokens, at most the first 256.

    The hidden states of a language model share a large constant part. For the built-in model, half of the energy is in three of 576
    dimensions, and the mean cosine between its answers is 0.7, even for quite different ones. So the vectors of ``OwnEncoder`` are
    centered: the mean vector of a fixed set of everyday prompts is subtracted (Mu and Viswanath, arXiv 1702.01417, subtract a corpus's
    own mean). Subtracting the pool's own mean would not work: every pool would then have a mean distance of 1, and fifty times
    "What is the capital of ...?" came out more diverse than 150 answers about eighty topics. An encoder that was trained for the cosine
    is used as it is.

    In bfloat16 the last digits of a vector depend on the texts it is padded with.
    """

    def __init__(self, kind: Encoder, folder: Path, dtype: str, column: str = "text"):
        """
        Args:
            kind: config of the encoder; decides whether vectors are centered.
            folder: the encoder.
            dtype: ``auto | float32 | bfloat16 | float16``; vectors are averaged in single precision.
            column: the column of texts.
        """
        import torch  # noqa: PLC0415  seconds to import

        self._column = column
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._tokenizer = load_tokenizer(folder)
        self._model = load_encoder(folder, resolve_dtype(dtype)).eval().to(self._device)
        limit: Any = getattr(self._model.config, "max_position_embeddings", _MAX_TOKENS)
        self._max_tokens = min(_MAX_TOKENS, limit)
        self._center_D = self.embed(load_ordinary_texts()).mean(0) if isinstance(kind, OwnEncoder) else np.float32(0)

    def __call__(self, rows: pa.Table) -> pa.Table:
        vectors_ND = self.embed(rows[self._column].to_pylist()) - self._center_D
        flat = pa.array(vectors_ND.ravel(), type=pa.float32())
        return rows.append_column("vector", pa.FixedSizeListArray.from_arrays(flat, vectors_ND.shape[1]))

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Compute the [N, D] mean hidden states of ``texts``, not centered; a text without tokens is all zeros."""
        ids: list[list[int]] = self._tokenizer(list(texts), truncation=True, max_length=self._max_tokens)["input_ids"] if texts else []
        vectors_ND = np.zeros((len(texts), self._model.config.hidden_size), dtype=np.float32)
        for batch in _batch_by_length([len(row) for row in ids], _TOKENS_AT_ONCE[self._device]):
            vectors_ND[batch] = self._average_hidden_states([ids[index] for index in batch]).cpu().numpy()
        return vectors_ND

    def _average_hidden_states(self, rows: Sequence[list[int]]) -> "torch.Tensor":
        import torch  # noqa: PLC0415  seconds to import

        longest = max(len(row) for row in rows)
        ids_BT = torch.tensor([row + [0] * (longest - len(row)) for row in rows], device=self._device)
        lengths_B1 = torch.tensor([[len(row)] for row in rows], device=self._device)
        mask_BT = (torch.arange(longest, device=self._device) < lengths_B1).long()
        with torch.inference_mode():
            hidden_BTD = self._model(input_ids=ids_BT, attention_mask=mask_BT).last_hidden_state.float()
            return (hidden_BTD * mask_BT.unsqueeze(-1)).sum(1) / lengths_B1


def _batch_by_length(lengths: Sequence[int], max_tokens: int) -> Iterator[list[int]]:
    """Yield batches of indices of texts of similar length, without the empty texts; a padded batch has at most ``max_tokens`` tokens."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: lengths[index]):
        if batch and (len(batch) + 1) * lengths[index] > max_tokens:
            yield batch
            batch = []
        if lengths[index]:
            batch.append(index)
    if batch:
        yield batch
