"""One turn of finding planted near-duplicates.  python -m benchmarks.deduping ours|datasketch MANY FEW

Both are files that ``write_corpus`` made; the smaller one is done first, so that every process has started. Timed is all from the
Parquet file to the ids of the rows to leave out.
"""

import argparse
import json
import resource
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from delia_ray.core.records import make_row_id
from delia_ray.core.text.words import ngrams, split_words
from delia_ray.mixing.config import Deduplicate
from delia_ray.mixing.minhash import choose_bands

FEW = 40_000
_VOCABULARY, _ROWS_AT_ONCE = 50_000, 10_000
_NEAR, _FAR = 0.1, 0.1
_SIMILARITY = Deduplicate().similarity
_SYLLABLES = [first + second for first in "bdfgklmnprstvz" for second in ("a", "e", "i", "o", "u", "an", "er", "ol")]


def ours(scratch: Path) -> Callable[[Path], list[str]]:
    """A local Ray with default settings."""
    import ray.data

    from delia_ray.mixing.near_duplicates import find_duplicates
    from delia_ray.mixing.sketches import read_arrow
    from delia_ray.placement import Cluster
    from delia_ray.ray_runtime.cluster import connect

    connect(Cluster())

    def work(corpus: Path) -> list[str]:
        found = find_duplicates(ray.data.read_parquet(str(corpus), columns=["row_id", "text"]), Deduplicate(), scratch / corpus.stem)
        return read_arrow(found.file)["row_id"].to_pylist()

    return work


def datasketch(_: Path) -> Callable[[Path], list[str]]:
    """``MinHash`` in bulk and ``MinHashLSH``, with a fast hash, the bands that ours has, and candidates checked by their signatures.

    A row is kept, and entered, unless one that is entered already is similar.
    """
    import mmh3
    from datasketch import MinHash, MinHashLSH  # pyright: ignore[reportMissingImports]  of requirements/bench.txt

    bands = choose_bands(_SIMILARITY)

    def hashed(shingle: bytes) -> int:
        return mmh3.hash(shingle, signed=False)

    def shingled(texts: list[str]) -> Iterator[list[bytes]]:
        for text in texts:
            yield [" ".join(gram).encode() for gram in set(ngrams(split_words(text), 3))]

    def work(corpus: Path) -> list[str]:
        rows = pq.read_table(corpus, columns=["row_id", "text"])
        lsh = MinHashLSH(num_perm=bands.count * bands.rows, params=(bands.count, bands.rows))
        made = MinHash.generator(shingled(rows["text"].to_pylist()), num_perm=lsh.h, scheme="affine32", hashfunc=hashed)
        entered: dict[str, Any] = {}
        removed: list[str] = []
        for name, signature in zip(rows["row_id"].to_pylist(), made, strict=True):
            if any(signature.jaccard(entered[other]) >= _SIMILARITY for other in lsh.query(signature)):
                removed.append(name)
                continue
            entered[name] = signature
            lsh.insert(name, signature, check_duplication=False)
        return removed

    return work


def write_corpus(count: int, file: Path) -> None:
    """Texts of 40 to 120 words, with near-duplicates of a tenth of them and texts that share half with another tenth.

    A near-duplicate has one word replaced for each started 80 words, so that its similarity is 0.85 and more; the others one for
    each 10 words, which leaves 0.65 and less. ``cluster`` tells which belong together.
    """
    chance = np.random.default_rng(0)
    vocabulary = np.array(["".join(chance.choice(_SYLLABLES, size)) for size in chance.integers(1, 5, _VOCABULARY)])
    schema = pa.schema({"row_id": pa.string(), "text": pa.string(), "cluster": pa.int64()})
    file.parent.mkdir(parents=True, exist_ok=True)
    with pq.ParquetWriter(file, schema) as writer:
        for first in range(0, count, _ROWS_AT_ONCE):
            texts, clusters = _texts(chance, vocabulary, min(_ROWS_AT_ONCE, count - first))
            names = [make_row_id("bench", str(first + place)) for place in range(len(texts))]
            writer.write_table(pa.table([names, texts, clusters + first], schema=schema))


def _texts(chance: np.random.Generator, vocabulary: np.ndarray, count: int) -> tuple[list[str], np.ndarray]:
    """Word frequencies fall as 1 / rank, as in any language (Zipf)."""
    near, far = int(count * _NEAR), int(count * _FAR)
    plain = count - near - far
    words = [_draw(chance, size) for size in chance.integers(40, 121, plain)]
    words += [_edited(chance, each, 1 + (len(each) - 1) // 80) for each in words[:near]]
    words += [_edited(chance, each, len(each) // 10) for each in words[near : near + far]]
    clusters = np.concatenate([np.arange(plain), np.arange(near), np.arange(plain, plain + far)])
    order = chance.permutation(count)
    return [" ".join(vocabulary[words[place]]) + "." for place in order], clusters[order]


def _draw(chance: np.random.Generator, size: int) -> np.ndarray:
    return (_VOCABULARY ** chance.random(size)).astype(np.int64) - 1


def _edited(chance: np.random.Generator, words: np.ndarray, edits: int) -> np.ndarray:
    """Evenly apart, so that each edit costs three shingles."""
    changed, step = words.copy(), len(words) / edits
    changed[((np.arange(edits) + 0.5) * step).astype(np.int64)] = chance.integers(1_000, _VOCABULARY, edits)
    return changed


def score(corpus: Path, removed: list[str]) -> dict[str, float]:
    """Of each cluster, all but one should go."""
    rows = pq.read_table(corpus, columns=["row_id", "cluster"])
    cluster = dict(zip(rows["row_id"].to_pylist(), rows["cluster"].to_pylist(), strict=True))
    spare = {each: size - 1 for each, size in Counter(cluster.values()).items() if size > 1}
    right = sum(min(spare.get(each, 0), count) for each, count in Counter(cluster[name] for name in removed).items())
    return {"recall": right / sum(spare.values()), "precision": right / max(len(removed), 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("arm", choices=["ours", "datasketch"])
    parser.add_argument("many", type=Path)
    parser.add_argument("few", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        cold = time.perf_counter()
        work = {"ours": ours, "datasketch": datasketch}[args.arm](Path(scratch))
        work(args.few)
        began = time.perf_counter()
        removed = work(args.many)
        seconds = time.perf_counter() - began
    driver_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    found = {"work": pq.read_metadata(args.many).num_rows, "seconds": seconds, "cold_seconds": began - cold, "driver_mib": driver_mib}
    print(json.dumps(found | score(args.many, removed)), flush=True)


if __name__ == "__main__":
    main()
