"""Give a model new tokens."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, assert_never

from delia_ray.errors import UserError
from delia_ray.models.chat import render
from delia_ray.models.chat_format import chat_format
from delia_ray.models.encoding import encode
from delia_ray.models.folders import Argument
from delia_ray.models.loading import load_model, load_tokenizer
from delia_ray.models.saving import save_whole
from delia_ray.models.template import set_arguments
from delia_ray.records import Message
from delia_ray.tasks.config import CopyInit, DescriptionInit, MeanInit, NoiseInit, TokenInit


def token_ids(tokenizer: Any, tokens: Sequence[str]) -> list[int]:
    """Vocabulary ids of whole tokens, each of which must be one."""
    return [tokenizer.convert_tokens_to_ids(token) for token in tokens]


def check_new_tokens(tokenizer: Any, tokens: Sequence[str], init: TokenInit) -> None:
    """Refuse tokens that would not be new to the model, and a start that it does not have.

    A special token that is reserved for later use, such as ``<unused0>``, is as good as new.

    Raises:
        UserError: a token is in the vocabulary already, or the one to copy is not.
    """
    vocabulary = tokenizer.get_vocab()
    for token in tokens:
        if token in vocabulary and token not in (reserved := _reserved(tokenizer)):
            others = f", or a reserved one ({', '.join(reserved[:3])})" if reserved else ""
            raise UserError(f"task.token: {token!r} is already in the vocabulary, with a meaning of its own; choose a new one{others}")
    if isinstance(init, CopyInit) and init.token not in vocabulary:
        raise UserError(f"task.token_init.token: {init.token!r} is not in the vocabulary; name one of its tokens whole")


def check_token_init(tokenizer: Any, init: TokenInit, rows: int) -> None:
    """Refuse a start from tokens that the model has no row for: some tokenizers have more tokens than their model.

    Args:
        rows: of the model's embedding.

    Raises:
        UserError: naming the token.
    """
    if beyond := [token for token in _init_ids(tokenizer, init) if token >= rows]:
        field = "token" if isinstance(init, CopyInit) else "text"
        raise UserError(
            f"task.token_init.{field}: {tokenizer.convert_ids_to_tokens(beyond[0])!r} is token {beyond[0]}, and the model's embedding has "
            f"{rows} rows, none for it; start from another token, or set task.token_init.kind=mean"
        )


def _init_ids(tokenizer: Any, init: TokenInit) -> list[int]:
    """Ids of the tokens whose rows a new one starts from, where it does not start from all."""
    match init:
        case MeanInit() | NoiseInit():
            return []
        case DescriptionInit(text=text):
            return tokenizer(text, add_special_tokens=False)["input_ids"]
        case CopyInit(token=token):
            return [tokenizer.convert_tokens_to_ids(token)]
        case _:
            assert_never(init)


def _reserved(tokenizer: Any) -> list[str]:
    """Special tokens that neither the tokenizer nor the chat template has a use for."""
    used = {tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token, tokenizer.unk_token, tokenizer.sep_token, tokenizer.cls_token}
    known = chat_format(tokenizer).template if tokenizer.chat_template else ""
    special = [added.content for _, added in sorted(tokenizer.added_tokens_decoder.items()) if added.special]
    return [token for token in special if token not in used and token not in known and ("unused" in token or "reserved" in token)]


def extend(
    folder: Path,
    tokens: Sequence[str],
    init: TokenInit,
    multiple: int,
    out: Path,
    template_arguments: Mapping[str, Argument] = MappingProxyType({}),
) -> None:
    """Save the model of ``folder`` to ``out`` with ``tokens`` as special tokens, in the precision it is stored in.

    Only the new rows are written: of the input embedding, and of the output embedding where it is not tied. Rows that pad the
    vocabulary already are used before the table grows. It grows to a multiple of ``multiple`` rows; rows that only pad it are
    the mean of the known ones, where no model looks for a meaning.

    Raises:
        UserError: a token is in the vocabulary already or is not kept whole, or the one to copy is not there.
    """
    tokenizer = load_tokenizer(folder)
    set_arguments(tokenizer, template_arguments)
    check_new_tokens(tokenizer, tokens, init)
    before = len(tokenizer)
    tokenizer.add_tokens(list(tokens), special_tokens=True)
    _check_whole(tokenizer, tokens)
    _check_unused(tokenizer, tokens)
    ids, loaded = token_ids(tokenizer, tokens), load_model(folder, "auto")
    old_rows: int = loaded.get_input_embeddings().num_embeddings
    check_token_init(tokenizer, init, old_rows)
    known = min(old_rows, before)
    rows = -(-max(len(tokenizer), old_rows) // multiple) * multiple
    if rows > old_rows:
        loaded.resize_token_embeddings(rows, mean_resizing=False)
    _write_rows(loaded, tokenizer, ids, init, known, old_rows)
    save_whole(loaded, tokenizer, out)


def _write_rows(loaded: Any, tokenizer: Any, ids: Sequence[int], init: TokenInit, known: int, old_rows: int) -> None:
    """Fill the rows of new tokens and those that pad, of both tables."""
    import torch  # noqa: PLC0415  seconds to import

    head = loaded.get_output_embeddings()
    tables = {id(layer.weight): layer.weight for layer in (loaded.get_input_embeddings(), head)}
    with torch.no_grad():
        for table in tables.values():
            known_VD = table[:known].float()
            table[old_rows:] = known_VD.mean(0).to(table.dtype)
            table[ids] = first_rows(known_VD, len(ids), init, tokenizer).to(table.dtype)
        if getattr(head, "bias", None) is not None:
            head.bias[[*ids, *range(old_rows, len(head.bias))]] = head.bias[:known].mean()


def _check_whole(tokenizer: Any, tokens: Sequence[str]) -> None:
    """Refuse a token that the tokenizer would take apart, or that is part of another."""
    for token, token_id in zip(tokens, token_ids(tokenizer, tokens), strict=True):
        if encode(tokenizer, [f"Follow {token} here."])[0].ids.count(token_id) != 1:
            raise UserError(
                f"task.token: the tokenizer does not keep {token!r} whole, since it holds another special token; choose another"
            )


def _check_unused(tokenizer: Any, tokens: Sequence[str]) -> None:
    """Refuse a token that the chat template writes: it would be in every prompt."""
    turn: list[Message] = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
    written = render(tokenizer, turn, prompt=False) if tokenizer.chat_template else ""
    if found := [token for token in tokens if token in written]:
        raise UserError(f"task.token: {found[0]!r} is part of what the model's chat template writes itself; choose another")


def first_rows(known_VD: Any, count: int, init: TokenInit, tokenizer: Any) -> Any:
    """[count, D] start values for new rows, from the rows the model has."""
    import torch  # noqa: PLC0415  seconds to import

    match init:
        case MeanInit():
            return known_VD.mean(0).expand(count, -1)
        case NoiseInit(seed=seed):
            noise_ND = torch.randn(count, known_VD.shape[1], generator=torch.Generator().manual_seed(seed))
            return known_VD.mean(0) + noise_ND * known_VD.std(0)
        case DescriptionInit() | CopyInit():
            return known_VD[_init_ids(tokenizer, init)].mean(0).expand(count, -1)
        case _:
            assert_never(init)
