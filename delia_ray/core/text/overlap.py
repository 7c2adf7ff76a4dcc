"""Near-duplicate search by word n-grams and by the Jaccard similarity of shingles."""

from collections import Counter, defaultdict
from collections.abc import Iterable

from delia_ray.core.text.words import ngrams, split_words, weighted_ngrams

SHINGLE_WORDS = 3
Gram = tuple[str, ...]


class OverlapIndex:
    """Index of named texts that finds one that overlaps with a given text."""

    def __init__(self, texts: Iterable[tuple[str, str]], *, similarity: float, ngram_words: int | None = None):
        """Index ``texts``.

        Args:
            texts: pairs of a name and a text.
            similarity: Jaccard similarity of shingles from which on two texts are near-duplicates.
            ngram_words: length of a shared n-gram that counts as overlap, in words; in scripts without spaces twice as many letters.
                None: n-grams are not compared.
        """
        self._similarity = similarity
        self._ngram_words = ngram_words
        self._grams: dict[Gram, str] = {}
        self._names: list[str] = []
        self._sizes: list[int] = []
        self._postings: defaultdict[Gram, list[int]] = defaultdict(list)
        for name, text in texts:
            words = split_words(text)
            for gram in self._list_ngrams(words):
                self._grams.setdefault(gram, name)
            text_shingles = shingles(words)
            for shingle in text_shingles:
                self._postings[shingle].append(len(self._names))
            self._names.append(name)
            self._sizes.append(len(text_shingles))

    def find_overlap(self, text: str) -> str | None:
        """Describe the overlap of ``text`` with an indexed text, or return None.

        Two texts overlap if they share an n-gram of ``ngram_words`` words (Brown et al., arXiv 2005.14165, appendix C), or if the
        Jaccard similarity of their shingles reaches ``similarity`` (Broder 1997, "resemblance"). A shingle is three words, or three
        letters in scripts without spaces.
        """
        words = split_words(text)
        for gram in self._list_ngrams(words):
            if gram in self._grams:
                return f"{self._ngram_words} words in a row of {self._grams[gram]}"
        text_shingles = shingles(words)
        shared = Counter(index for shingle in text_shingles for index in self._postings.get(shingle, ()))
        for index, count in shared.items():
            similarity = count / (len(text_shingles) + self._sizes[index] - count)
            if similarity >= self._similarity:
                return f"near-duplicate of {self._names[index]} ({similarity:.2f})"
        return None

    def _list_ngrams(self, words: list[str]) -> Iterable[Gram]:
        return weighted_ngrams(words, self._ngram_words) if self._ngram_words else ()


def shingles(words: list[str]) -> set[Gram]:
    """Shingles of a text: n-grams of three words, or of three letters in scripts without spaces; a shorter text is one shingle."""
    return set(ngrams(words, SHINGLE_WORDS)) or ({tuple(words)} if words else set())
