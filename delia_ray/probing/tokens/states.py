"""Hidden states of words in a model, and the token's embedding rows: copied, replaced, and control rows.

Shape legend: C carriers, D dimensions, K the layers and the embedding before them, B words of a batch, T tokens, V vocabulary, W words.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from delia_ray.core.errors import UserError
from delia_ray.models import init_embedding_rows
from delia_ray.tasks.config import MeanInit, NoiseInit

_NORMS = ("norm", "final_layernorm", "final_layer_norm", "ln_f")


class TokenRows(NamedTuple):
    """A token's rows in the input and in the output embedding, each [D]; equal where the model ties them."""

    input_D: Tensor
    output_D: Tensor


@dataclass(frozen=True)
class WordTokens:
    """The tokens of a word that continues a carrier."""

    ids: tuple[int, ...]
    """Token ids of the word, and of the space before it where the tokenizer separates it."""
    positions: tuple[int, ...]
    """Indices into ``ids`` of the tokens whose states represent the word."""

    @property
    def pieces(self) -> list[int]:
        """Token ids at ``positions``."""
        return [self.ids[position] for position in self.positions]


def tokenize_word(tokenizer: Any, prefixes: Sequence[str], word: str, pieces: str) -> WordTokens:
    """Tokenize ``word`` as it continues each of ``prefixes`` after a space.

    Args:
        tokenizer: of the model.
        prefixes: carriers up to the space before their slot.
        word: a word, or the new token.
        pieces: ``mean`` or ``last``: which of a word's tokens represent it.

    Raises:
        UserError: the tokenizer joins the word with the text before it, or tokenizes it differently in two carriers.
    """
    continuations: set[tuple[int, ...]] = set()
    for prefix in prefixes:
        before, whole = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in (prefix, f"{prefix} {word}"))
        continuations.add(tuple(whole[len(before) :]) if whole[: len(before)] == before else ())
    if len(continuations) > 1 or () in continuations:
        raise UserError(f"probe.tokens.concepts: the model's tokenizer joins {word!r} with the text before it; choose another word")
    [ids] = continuations
    positions = [position for position, token in enumerate(ids) if tokenizer.decode([token]).strip()]
    return WordTokens(ids, tuple(positions if pieces == "mean" else positions[-1:]))


class HiddenStateReader:
    """Reads a causal model's hidden states before every layer, and after the last one before the final norm."""

    def __init__(self, model: Any):
        self._model = model
        self._last_BTD: Tensor | None = None
        find_final_norm(model).register_forward_pre_hook(self._keep_last)

    def _keep_last(self, module: Any, args: tuple[Tensor, ...]) -> None:
        self._last_BTD = args[0]

    @torch.inference_mode()
    def compute_cache(self, ids: Sequence[int]) -> Any:
        """Run the model over the beginning of a text, and return its KV cache."""
        return self._model.base_model(input_ids=torch.tensor([list(ids)], device=self._model.device), use_cache=True).past_key_values

    @torch.inference_mode()
    def read_states(self, cache: Any, words: Sequence[WordTokens]) -> Tensor:
        """Read the state of each word after the same beginning, averaged over its positions: [W, K, D] in single precision."""
        by_length: dict[int, list[int]] = {}
        for index, word in enumerate(words):
            by_length.setdefault(len(word.ids), []).append(index)
        states: dict[int, Tensor] = {}
        for indices in by_length.values():
            batch_cache = copy.deepcopy(cache)
            batch_cache.batch_repeat_interleave(len(indices))
            ids_BT = torch.tensor([words[index].ids for index in indices], device=self._model.device)
            output = self._model.base_model(input_ids=ids_BT, past_key_values=batch_cache, use_cache=True, output_hidden_states=True)
            assert self._last_BTD is not None, "the model ran its final norm"
            for row, index in enumerate(indices):
                positions = list(words[index].positions)
                layers = [layer_BTD[row, positions].float().mean(0) for layer_BTD in (*output.hidden_states[:-1], self._last_BTD)]
                states[index] = torch.stack(layers)
        return torch.stack([states[index] for index in range(len(words))])


def find_final_norm(model: Any) -> Any:
    """Find the norm between a model's last layer and its head.

    Raises:
        UserError: it has none of the known names.
    """
    for name in _NORMS:
        if (norm := getattr(model.base_model, name, None)) is not None:
            return norm
    raise UserError(f"model: {type(model).__name__} has no final norm called {', '.join(_NORMS)}; `delia probe tokens` cannot look at it")


def copy_rows(model: Any, token_id: int) -> TokenRows:
    """Copy a token's rows from the model's embeddings."""
    tables = (model.get_input_embeddings().weight, model.get_output_embeddings().weight)
    return TokenRows(*(table[token_id].detach().clone() for table in tables))


def set_rows(model: Any, token_id: int, rows: TokenRows) -> None:
    """Replace a token's rows in the model's embeddings by ``rows``."""
    with torch.no_grad():
        model.get_input_embeddings().weight[token_id] = rows.input_D
        model.get_output_embeddings().weight[token_id] = rows.output_D


def make_control_rows(model: Any, token_id: int, base: TokenRows, seed: int, *, with_mean: bool) -> dict[str, TokenRows]:
    """Make the model's own rows for the token and the control rows to compare them with: name of ``schema.ROWS`` -> rows.

    Args:
        model: its rows before the token's are those of the known vocabulary.
        token_id: the new token's.
        base: the token's rows in the base model; ``fresh`` is left out where they are the model's own.
        seed: seed of the noise.
        with_mean: whether to add the row ``mean``.
    """
    tables = (model.get_input_embeddings().weight.detach(), model.get_output_embeddings().weight.detach())
    known = [table[:token_id].float() for table in tables]
    rows = {"own": copy_rows(model, token_id)}
    if not all(torch.equal(own, fresh) for own, fresh in zip(rows["own"], base, strict=True)):
        rows["fresh"] = base
    rows["noise"] = TokenRows(*(init_embedding_rows(known_VD, 1, NoiseInit(seed=seed), None)[0] for known_VD in known))
    if with_mean:
        rows["mean"] = TokenRows(*(init_embedding_rows(known_VD, 1, MeanInit(), None)[0] for known_VD in known))
    return rows
