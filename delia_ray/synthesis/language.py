"""Which languages texts are in."""

from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

_FEWEST_BYTES = 20
UNTOLD = "too short to tell"


def language_counts(texts: Iterable[str]) -> dict[str, int]:
    """ISO 639 code -> texts, the commonest first, as py3langid tells them (Lui and Baldwin, langid.py, ACL 2012).

    It names a language for any text, and for a name or a greeting a wrong one; texts of fewer than 20 bytes (of UTF-8) are not
    asked about.
    """
    return dict(Counter(_language(text) for text in texts).most_common())


def _language(text: str) -> str:
    return _identifier().classify(text)[0] if len(text.encode()) >= _FEWEST_BYTES else UNTOLD


@lru_cache(maxsize=1)
def _identifier() -> Any:
    """The model comes with the package; half a second to unpack."""
    import py3langid  # noqa: PLC0415  unpacks with its first use, which most importers never come to

    return py3langid
