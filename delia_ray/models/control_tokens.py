"""Tokens that may open or close a turn, which no text may contain."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ControlTokens:
    """Finds them in a text, in whatever spelling the tokenizer takes for one of them."""

    tokens: tuple[str, ...]
    normalizer: Any = None
    """The tokenizer's, where it looks for control tokens in normalised text; None otherwise."""

    def __call__(self, text: str) -> str | None:
        """The first of them that ``text`` would be read as holding, or None."""
        return next((token for token in self.tokens for read in self._read(text) if token in read), None)

    def _read(self, text: str) -> Iterator[str]:
        yield text
        if self.normalizer is not None:  # full-width brackets, say, may become plain ones
            yield self.normalizer.normalize_str(text)


def find_control_tokens(tokenizer: Any, rendered: str) -> ControlTokens:
    """Special tokens, and added ones that the template itself writes: vocabularies keep runs of white space and HTML tags as such, too.

    Args:
        rendered: a conversation.
    """
    added = tokenizer.added_tokens_decoder.values()
    written = {token for token in map(str, tokenizer.get_added_vocab()) if token in rendered and token.strip()}
    special = {token.content for token in added if token.special}
    tokens = tuple(sorted({*tokenizer.all_special_tokens, *special, *written}))
    normalised = any(token.normalized for token in added if token.content in tokens)
    return ControlTokens(tokens, tokenizer.backend_tokenizer.normalizer if normalised else None)
