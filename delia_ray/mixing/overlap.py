"""What a text has in common with what a model will be scored on."""

from collections import Counter, defaultdict
from collections.abc import Iterable

from delia_ray.mixing.config import Decontaminate
from delia_ray.words import ngrams, words_of

_SHINGLE_WORDS = 3
Gram = tuple[str, ...]


class EvaluationIndex:
    """Finds the evaluation texts that a text overlaps with, by name."""

    def __init__(self, texts: Iterable[tuple[str, str]], config: Decontaminate):
        """``texts`` are pairs of a name and what is shown to the model under it."""
        self._config = config
        self._grams: dict[Gram, str] = {}
        self._names: list[str] = []
        self._sizes: list[int] = []
        self._places: defaultdict[Gram, list[int]] = defaultdict(list)
        for name, text in texts:
            words = words_of(text)
            for gram in ngrams(words, config.ngram_words):
                self._grams.setdefault(gram, name)
            shingles = _shingles(words)
            for shingle in shingles:
                self._places[shingle].append(len(self._names))
            self._names.append(name)
            self._sizes.append(len(shingles))

    def overlap(self, text: str) -> str | None:
        """How ``text`` overlaps with an evaluation text, or None.

        Either they share ``ngram_words`` words in a row (Brown et al., arXiv 2005.14165, appendix C), or the Jaccard
        similarity of their runs of three words reaches ``similarity`` (Broder 1997, "resemblance").
        """
        words = words_of(text)
        for gram in ngrams(words, self._config.ngram_words):
            if gram in self._grams:
                return f"{self._config.ngram_words} words in a row of {self._grams[gram]}"
        shingles = _shingles(words)
        shared = Counter(place for shingle in shingles for place in self._places.get(shingle, ()))
        for place, count in shared.items():
            similarity = count / (len(shingles) + self._sizes[place] - count)
            if similarity >= self._config.similarity:
                return f"near-duplicate of {self._names[place]} ({similarity:.2f})"
        return None


def _shingles(words: list[str]) -> set[Gram]:
    """Runs of three words; of a shorter text, all of it."""
    return set(ngrams(words, _SHINGLE_WORDS)) or ({tuple(words)} if words else set())
