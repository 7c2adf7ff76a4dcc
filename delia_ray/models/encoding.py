"""Tokenization of rendered text."""

from collections.abc import Sequence
from typing import Any


def encode(tokenizer: Any, texts: Sequence[str]) -> list[Any]:
    """Encode rendered texts (``ids``, ``offsets``) without adding special tokens, which the template has rendered already."""
    # The backend is called directly: the tokenizer's own call takes a quarter longer, for masks that are not needed here.
    return tokenizer.backend_tokenizer.encode_batch(list(texts), add_special_tokens=False)


def encode_continuation(tokenizer: Any, text: str) -> list[tuple[int, int]]:
    """Encode ``text`` as the continuation of a prompt: token ids, each with the index of its first character.

    The text is encoded after a special token, because some tokenizers add a space before the first word of a text.
    """
    anchor = next((added for added in tokenizer.added_tokens_decoder.values() if added.special and not added.rstrip), None)
    prefix = "" if anchor is None else anchor.content
    encoding = encode(tokenizer, [prefix + text])[0]
    return [(token, start - len(prefix)) for token, (start, _) in zip(encoding.ids, encoding.offsets, strict=True) if start >= len(prefix)]
