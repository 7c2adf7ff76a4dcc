"""Rendered text as token ids."""

from collections.abc import Sequence
from typing import Any


def encode(tokenizer: Any, texts: Sequence[str]) -> list[Any]:
    """The encoding (``ids``, ``offsets``) of each rendered text: the template has written all special tokens there are to be."""
    # Not through the tokenizer's own call, which spends a quarter more on masks that are not needed here.
    return tokenizer.backend_tokenizer.encode_batch(list(texts), add_special_tokens=False)


def encode_after(tokenizer: Any, text: str) -> list[tuple[int, int]]:
    """Token ids of ``text`` as it goes on after a prompt, each with its first character.

    Behind a special token, which every tokenizer sets apart: some put a space before a text's first word.
    """
    anchor = next((added for added in tokenizer.added_tokens_decoder.values() if added.special and not added.rstrip), None)
    before = "" if anchor is None else anchor.content
    encoding = encode(tokenizer, [before + text])[0]
    return [(token, start - len(before)) for token, (start, _) in zip(encoding.ids, encoding.offsets, strict=True) if start >= len(before)]
