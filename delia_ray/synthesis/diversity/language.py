"""Language identification of texts, with py3langid."""

from collections import Counter
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

_MIN_BYTES = 20
TOO_SHORT = "too short to tell"


def count_languages(texts: Iterable[str]) -> dict[str, int]:
    """Count the texts of each language: ISO 639 code -> texts, the most frequent first (Lui and Baldwin, langid.py, ACL 2012).

    py3langid assigns a language to any text, often a wrong one to a name or a greeting. Texts of fewer than 20 bytes of UTF-8 are
    counted as ``TOO_SHORT``.
    """
    return dict(Counter(_identify(text) for text in texts).most_common())


def _identify(text: str) -> str:
    return _load_identifier().classify(text)[0] if len(text.encode()) >= _MIN_BYTES else TOO_SHORT


@lru_cache(maxsize=1)
def _load_identifier() -> Any:
    """The model comes with the package and takes half a second to unpack."""
    import py3langid  # noqa: PLC0415  unpacks at its first use, which most importers never reach

    return py3langid
