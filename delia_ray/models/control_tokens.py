"""Control tokens of a chat template: tokens that can open or close a turn, which no text may contain."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ControlTokens:
    """Matcher for control tokens in a text, in any spelling that the tokenizer maps to one."""

    tokens: tuple[str, ...]
    normalizer: Any = None
    """The tokenizer's normalizer, if it matches control tokens in normalized text; None otherwise."""

    def __call__(self, text: str) -> str | None:
        """Return the first control token that ``text`` contains, or None."""
        return next((token for token in self.tokens for variant in self._iter_variants(text) if token in variant), None)

    def _iter_variants(self, text: str) -> Iterator[str]:
        yield text
        if self.normalizer is not None:  # it can turn full-width brackets into plain ones, for example
            yield self.normalizer.normalize_str(text)


def find_control_tokens(tokenizer: Any, rendered: str) -> ControlTokens:
    """Find the special tokens, and the added tokens that the template renders; other added tokens can be whitespace or HTML tags.

    Args:
        rendered: a rendered conversation.
    """
    added = tokenizer.added_tokens_decoder.values()
    written = {token for token in map(str, tokenizer.get_added_vocab()) if token in rendered and token.strip()}
    special = {token.content for token in added if token.special}
    tokens = tuple(sorted({*tokenizer.all_special_tokens, *special, *written}))
    normalized = any(token.normalized for token in added if token.content in tokens)
    return ControlTokens(tokens, tokenizer.backend_tokenizer.normalizer if normalized else None)
