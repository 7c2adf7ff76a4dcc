"""What a text has in common with known ones."""

from collections import Counter, defaultdict
from collections.abc import Iterable

from delia_ray.words import ngrams, runs, words_of

SHINGLE_WORDS = 3
Gram = tuple[str, ...]


class OverlapIndex:
    """Finds the known texts that a text overlaps with, by name."""

    def __init__(self, texts: Iterable[tuple[str, str]], *, similarity: float, ngram_words: int | None = None):
        """``texts`` are pairs of a name and what is shown to the model under it; without ``ngram_words`` no run of words counts.

        Of scripts without spaces, a run is of twice as many letters.
        """
        self._similarity = similarity
        self._ngram_words = ngram_words
        self._grams: dict[Gram, str] = {}
        self._names: list[str] = []
        self._sizes: list[int] = []
        self._places: defaultdict[Gram, list[int]] = defaultdict(list)
        for name, text in texts:
            words = words_of(text)
            for gram in self._runs(words):
                self._grams.setdefault(gram, name)
            mine = shingles(words)
            for shingle in mine:
                self._places[shingle].append(len(self._names))
            self._names.append(name)
            self._sizes.append(len(mine))

    def overlap(self, text: str) -> str | None:
        """How ``text`` overlaps with a known one, or None.

        Either they share ``ngram_words`` words in a row (Brown et al., arXiv 2005.14165, appendix C), or the Jaccard
        similarity of their runs of three words, or letters where these stand for words, reaches ``similarity`` (Broder 1997,
        "resemblance").
        """
        words = words_of(text)
        for gram in self._runs(words):
            if gram in self._grams:
                return f"{self._ngram_words} words in a row of {self._grams[gram]}"
        mine = shingles(words)
        shared = Counter(place for shingle in mine for place in self._places.get(shingle, ()))
        for place, count in shared.items():
            similarity = count / (len(mine) + self._sizes[place] - count)
            if similarity >= self._similarity:
                return f"near-duplicate of {self._names[place]} ({similarity:.2f})"
        return None

    def _runs(self, words: list[str]) -> Iterable[Gram]:
        return runs(words, self._ngram_words) if self._ngram_words else ()


def shingles(words: list[str]) -> set[Gram]:
    """Runs of three words, or of three letters where these stand for words; of a shorter text, all of it."""
    return set(ngrams(words, SHINGLE_WORDS)) or ({tuple(words)} if words else set())
