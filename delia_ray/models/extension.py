"""New tokens: checks, initial embedding rows, and the extended model folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, assert_never

from delia_ray.core.errors import UserError
from delia_ray.core.records import Message
from delia_ray.core.storage.transfer import output_folder
from delia_ray.models.chat import render_conversation
from delia_ray.models.chat_format import detect_chat_format
from delia_ray.models.encoding import encode
from delia_ray.models.folders import TemplateArgument
from delia_ray.models.loading import load_model, load_tokenizer
from delia_ray.models.saving import save_model
from delia_ray.models.template import set_template_arguments
from delia_ray.tasks.config import CopyInit, DescriptionInit, MeanInit, NoiseInit, TokenInit


def token_ids(tokenizer: Any, tokens: Sequence[str]) -> list[int]:
    """Convert tokens to vocabulary ids; each must be in the vocabulary."""
    return [tokenizer.convert_tokens_to_ids(token) for token in tokens]


def check_new_tokens(tokenizer: Any, tokens: Sequence[str], init: TokenInit) -> None:
    """Refuse tokens that the vocabulary already has, and an init token that it does not have.

    A reserved special token, such as ``<unused0>``, counts as new.

    Raises:
        UserError: a token is in the vocabulary already, or the token to copy is not.
    """
    vocabulary = tokenizer.get_vocab()
    for token in tokens:
        if token in vocabulary and token not in (reserved := _list_reserved_tokens(tokenizer)):
            others = f", or a reserved one ({', '.join(reserved[:3])})" if reserved else ""
            raise UserError(f"task.token: {token!r} is already in the vocabulary, with a meaning of its own; choose a new one{others}")
    if isinstance(init, CopyInit) and init.token not in vocabulary:
        raise UserError(f"task.token_init.token: {init.token!r} is not in the vocabulary; name one of its tokens whole")


def check_token_init(tokenizer: Any, init: TokenInit, rows: int) -> None:
    """Refuse an init from tokens without an embedding row: some tokenizers have more tokens than their model.

    Args:
        rows: number of rows of the model's embedding.

    Raises:
        UserError: a token has no row; the message names it.
    """
    if beyond := [token for token in _list_init_ids(tokenizer, init) if token >= rows]:
        field = "token" if isinstance(init, CopyInit) else "text"
        raise UserError(
            f"task.token_init.{field}: {tokenizer.convert_ids_to_tokens(beyond[0])!r} is token {beyond[0]}, and the model's embedding has "
            f"{rows} rows, none for it; start from another token, or set task.token_init.kind=mean"
        )


def _list_init_ids(tokenizer: Any, init: TokenInit) -> list[int]:
    """List the ids of the tokens whose rows initialize a new one; empty if the init uses all rows."""
    match init:
        case MeanInit() | NoiseInit():
            return []
        case DescriptionInit(text=text):
            return tokenizer(text, add_special_tokens=False)["input_ids"]
        case CopyInit(token=token):
            return [tokenizer.convert_tokens_to_ids(token)]
        case _:
            assert_never(init)


def _list_reserved_tokens(tokenizer: Any) -> list[str]:
    """List the reserved special tokens that neither the tokenizer nor the chat template uses."""
    used = {tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token, tokenizer.unk_token, tokenizer.sep_token, tokenizer.cls_token}
    template = detect_chat_format(tokenizer).template if tokenizer.chat_template else ""
    special = [added.content for _, added in sorted(tokenizer.added_tokens_decoder.items()) if added.special]
    return [token for token in special if token not in used and token not in template and ("unused" in token or "reserved" in token)]


def add_new_tokens(
    folder: Path,
    tokens: Sequence[str],
    init: TokenInit,
    multiple: int,
    out: Path,
    template_arguments: Mapping[str, TemplateArgument] = MappingProxyType({}),
) -> None:
    """Add ``tokens`` as special tokens to the model of ``folder`` and save it to ``out``, in the dtype it is stored in.

    Only the rows of the new tokens change: in the input embedding, and in the output embedding if it is not tied. Existing padding rows
    of the vocabulary are used before the tables grow. They grow to a multiple of ``multiple`` rows; padding rows are the mean of the
    known rows.

    Raises:
        UserError: a token is in the vocabulary already or is split by the tokenizer, or the token to copy is not in the vocabulary.
    """
    tokenizer = load_tokenizer(folder)
    set_template_arguments(tokenizer, template_arguments)
    check_new_tokens(tokenizer, tokens, init)
    old_vocabulary = len(tokenizer)
    tokenizer.add_tokens(list(tokens), special_tokens=True)
    _check_not_split(tokenizer, tokens)
    _check_not_in_template(tokenizer, tokens)
    ids, model = token_ids(tokenizer, tokens), load_model(folder, "auto")
    old_rows: int = model.get_input_embeddings().num_embeddings
    check_token_init(tokenizer, init, old_rows)
    known_rows = min(old_rows, old_vocabulary)
    rows = -(-max(len(tokenizer), old_rows) // multiple) * multiple
    if rows > old_rows:
        model.resize_token_embeddings(rows, mean_resizing=False)
    _write_rows(model, tokenizer, ids, init, known_rows, old_rows)
    with output_folder(out):
        save_model(model, tokenizer, out)


def _write_rows(model: Any, tokenizer: Any, ids: Sequence[int], init: TokenInit, known_rows: int, old_rows: int) -> None:
    """Fill the rows of new tokens and the new padding rows, in the input and output embeddings."""
    import torch  # noqa: PLC0415  seconds to import

    head = model.get_output_embeddings()
    tables = {id(layer.weight): layer.weight for layer in (model.get_input_embeddings(), head)}
    with torch.no_grad():
        for table in tables.values():
            known_VD = table[:known_rows].float()
            table[old_rows:] = known_VD.mean(0).to(table.dtype)
            table[ids] = init_embedding_rows(known_VD, len(ids), init, tokenizer).to(table.dtype)
        if getattr(head, "bias", None) is not None:
            head.bias[[*ids, *range(old_rows, len(head.bias))]] = head.bias[:known_rows].mean()


def _check_not_split(tokenizer: Any, tokens: Sequence[str]) -> None:
    """Refuse a token that the tokenizer splits, or that overlaps with another token."""
    for token, token_id in zip(tokens, token_ids(tokenizer, tokens), strict=True):
        if encode(tokenizer, [f"Follow {token} here."])[0].ids.count(token_id) != 1:
            raise UserError(
                f"task.token: the tokenizer does not keep {token!r} whole, since it holds another special token; choose another"
            )


def _check_not_in_template(tokenizer: Any, tokens: Sequence[str]) -> None:
    """Refuse a token that the chat template renders: it would be in every prompt."""
    turn: list[Message] = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    rendered = render_conversation(tokenizer, turn, prompt=False) if tokenizer.chat_template else ""
    if conflicts := [token for token in tokens if token in rendered]:
        raise UserError(f"task.token: {conflicts[0]!r} is part of what the model's chat template writes itself; choose another")


def init_embedding_rows(known_VD: Any, count: int, init: TokenInit, tokenizer: Any) -> Any:
    """[count, D] initial values of new embedding rows, computed from the known rows."""
    import torch  # noqa: PLC0415  seconds to import

    match init:
        case MeanInit():
            return known_VD.mean(0).expand(count, -1)
        case NoiseInit(seed=seed):
            noise_ND = torch.randn(count, known_VD.shape[1], generator=torch.Generator().manual_seed(seed))
            return known_VD.mean(0) + noise_ND * known_VD.std(0)
        case DescriptionInit() | CopyInit():
            return known_VD[_list_init_ids(tokenizer, init)].mean(0).expand(count, -1)
        case _:
            assert_never(init)
