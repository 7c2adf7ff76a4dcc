"""Hidden states of words in a model, and a model whose token's rows are set to others.

Shape legend: C carriers, D dimensions, K the layers and the embedding before them, V vocabulary, W words.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from delia_ray.errors import UserError
from delia_ray.models import first_rows
from delia_ray.tasks.config import MeanInit, NoiseInit

_NORMS = ("norm", "final_layernorm", "final_layer_norm", "ln_f")


class Rows(NamedTuple):
    """A token's place in the two embeddings, each ``[D]``; equal where the model ties them."""

    input_D: Tensor
    output_D: Tensor


@dataclass(frozen=True)
class Tail:
    """A word as it continues a carrier."""

    ids: tuple[int, ...]
    """Its token ids, and that of the space before it where the tokenizer sets that apart."""
    read: tuple[int, ...]
    """Which of them stand for the word."""

    @property
    def pieces(self) -> list[int]:
        return [self.ids[place] for place in self.read]


def word_tail(tokenizer: Any, prefixes: Sequence[str], word: str, pieces: str) -> Tail:
    """How ``word`` continues each of ``prefixes`` after a space.

    Args:
        tokenizer: of the model.
        prefixes: carriers up to the space before their slot.
        word: a word, or the token.
        pieces: ``mean`` or ``last``: which of a word's several tokens stand for it.

    Raises:
        UserError: the tokenizer joins the word with what comes before it, or reads it differently in two carriers.
    """
    tails: set[tuple[int, ...]] = set()
    for prefix in prefixes:
        before, whole = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (prefix, f"{prefix} {word}"))
        tails.add(tuple(whole[len(before) :]) if whole[: len(before)] == before else ())
    if len(tails) > 1 or () in tails:
        raise UserError(f"probe.tokens.concepts: the model's tokenizer joins {word!r} with the text before it; choose another word")
    [ids] = tails
    read = [place for place, token in enumerate(ids) if tokenizer.decode([token]).strip()]
    return Tail(ids, tuple(read if pieces == "mean" else read[-1:]))


class StateReader:
    """Reads a causal model's states before every layer, and after the last one before the final norm."""

    def __init__(self, model: Any):
        self._model = model
        self._last_BTD: Tensor | None = None
        final_norm(model).register_forward_pre_hook(self._keep)

    def _keep(self, module: Any, args: tuple[Tensor, ...]) -> None:
        self._last_BTD = args[0]

    @torch.inference_mode()
    def prefix(self, ids: Sequence[int]) -> Any:
        """What the model keeps of a text's beginning."""
        return self._model.base_model(input_ids=torch.tensor([list(ids)], device=self._model.device), use_cache=True).past_key_values

    @torch.inference_mode()
    def after(self, prefix: Any, tails: Sequence[Tail]) -> Tensor:
        """[W, K, D] in single precision: the state of each word after the same beginning, averaged over the tokens it is read at."""
        by_length: dict[int, list[int]] = {}
        for index, tail in enumerate(tails):
            by_length.setdefault(len(tail.ids), []).append(index)
        states: dict[int, Tensor] = {}
        for places in by_length.values():
            kept = copy.deepcopy(prefix)
            kept.batch_repeat_interleave(len(places))
            ids_WT = torch.tensor([tails[index].ids for index in places], device=self._model.device)
            seen = self._model.base_model(input_ids=ids_WT, past_key_values=kept, use_cache=True, output_hidden_states=True)
            assert self._last_BTD is not None, "the model ran its final norm"
            for row, index in enumerate(places):
                read = list(tails[index].read)
                layers = [layer_BTD[row, read].float().mean(0) for layer_BTD in (*seen.hidden_states[:-1], self._last_BTD)]
                states[index] = torch.stack(layers)
        return torch.stack([states[index] for index in range(len(tails))])


def final_norm(model: Any) -> Any:
    """The norm between a model's last layer and its head.

    Raises:
        UserError: it goes by an unknown name.
    """
    for name in _NORMS:
        if (found := getattr(model.base_model, name, None)) is not None:
            return found
    raise UserError(f"model: {type(model).__name__} has no final norm called {', '.join(_NORMS)}; `delia probe tokens` cannot look at it")


def rows_of(model: Any, token_id: int) -> Rows:
    """Copies of a token's rows."""
    tables = (model.get_input_embeddings().weight, model.get_output_embeddings().weight)
    return Rows(*(table[token_id].detach().clone() for table in tables))


def set_rows(model: Any, token_id: int, rows: Rows) -> None:
    """Put ``rows`` in the place of a token's own."""
    with torch.no_grad():
        model.get_input_embeddings().weight[token_id] = rows.input_D
        model.get_output_embeddings().weight[token_id] = rows.output_D


def control_rows(model: Any, token_id: int, start: Rows, seed: int, *, with_mean: bool) -> dict[str, Rows]:
    """The model's own rows for the token, and those to compare them with: see ``token_schema.ROWS``.

    Args:
        model: whose rows before the token's are the known ones.
        token_id: the new token's.
        start: its rows in the start model; ``fresh`` is left out where they are the model's own.
        seed: of the noise.
        with_mean: whether the mean is a row of its own.
    """
    tables = (model.get_input_embeddings().weight.detach(), model.get_output_embeddings().weight.detach())
    known = [table[:token_id].float() for table in tables]
    found = {"own": rows_of(model, token_id)}
    if not all(torch.equal(own, first) for own, first in zip(found["own"], start, strict=True)):
        found["fresh"] = start
    found["noise"] = Rows(*(first_rows(known_VD, 1, NoiseInit(seed=seed), None)[0] for known_VD in known))
    if with_mean:
        found["mean"] = Rows(*(first_rows(known_VD, 1, MeanInit(), None)[0] for known_VD in known))
    return found
