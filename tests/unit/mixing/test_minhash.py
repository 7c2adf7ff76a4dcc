import numpy as np
import pytest

from delia_ray.mixing.minhash import Shingles, bucket_texts, choose_bands, find_clusters, hash_shingles, jaccard, pair_candidates

WORDS = [f"word{n}" for n in range(3000)]


def shingle_sets(texts: list[str]) -> list[set[tuple[str, ...]]]:
    words_of_texts = [text.casefold().split() for text in texts]
    return [{tuple(words[n : n + 3]) for n in range(max(len(words) - 2, 1))} for words in words_of_texts]


def plant_duplicates(count: int) -> tuple[list[str], int]:
    """Texts; each of the first ``count`` again with a word or two replaced, and others of which half is replaced."""
    rng = np.random.default_rng(0)
    plain = [[WORDS[n] for n in rng.integers(0, len(WORDS), 60)] for _ in range(5 * count)]

    def edit(words: list[str], edits: int) -> list[str]:
        indices = set(rng.choice(len(words), edits, replace=False).tolist())
        return ["other" if index in indices else word for index, word in enumerate(words)]

    near = [edit(words, 1 + n % 2) for n, words in enumerate(plain[:count])]
    far = [edit(words, 8) for words in plain[-count:]]
    return [" ".join(words) for words in [*plain, *near, *far]], 5 * count


def find_pairs(texts: list[str], similarity: float) -> set[tuple[int, int]]:
    shingles, pairs = hash_shingles(texts), set()
    for bucket in bucket_texts(shingles, choose_bands(similarity)):
        left, right = pair_candidates(bucket, np.arange(len(texts)))
        similar = jaccard(shingles, left, right) >= similarity
        pairs |= {(min(pair), max(pair)) for pair in zip(left[similar].tolist(), right[similar].tolist(), strict=True)}
    return pairs


def test_planted_near_duplicates_are_found_and_nothing_else():
    texts, first = plant_duplicates(300)
    pairs = find_pairs(texts, 0.8)
    truth = {(n, first + n) for n in range(300)}
    assert len(pairs & truth) >= 0.97 * len(truth) and pairs <= truth


def test_the_order_of_texts_decides_nothing():
    texts, _ = plant_duplicates(40)
    order = np.random.default_rng(1).permutation(len(texts)).tolist()
    shuffled = find_pairs([texts[n] for n in order], 0.8)
    assert {tuple(sorted((order[left], order[right]))) for left, right in shuffled} == find_pairs(texts, 0.8)


def test_jaccard_is_that_of_the_sets_of_runs_of_three_words():
    texts = ["a b c d", "A  b, c", "b c d e a b c", "a b", "a b c d a b c"]
    shingles, exact = hash_shingles(texts), shingle_sets(["a b c d", "a b c", "b c d e a b c", "a b", "a b c d a b c"])
    left, right = np.triu_indices(len(texts))
    expected = [len(exact[a] & exact[b]) / len(exact[a] | exact[b]) for a, b in zip(left, right, strict=True)]
    assert jaccard(shingles, left, right) == pytest.approx(expected)


def test_shingles_are_the_same_in_every_process():
    shingles = hash_shingles(["Why do bees dance?", "", "?!", "Why"])
    assert shingles.sizes.tolist() == [2, 0, 0, 1]
    assert shingles.hashes.tolist() == [172341108419679, 210694164353339, 173351241705872]


def test_texts_share_a_bucket_as_often_as_theory_says():
    bands, rng = choose_bands(0.8), np.random.default_rng(2)
    values = rng.integers(0, 2**48, (2000, 50), dtype=np.uint64)
    other = values.copy()
    other[:, :10] = rng.integers(0, 2**48, (2000, 10), dtype=np.uint64)
    pairs = Shingles(np.sort(np.concatenate([values, other]), axis=1).ravel(), np.arange(0, 4001) * 50)
    has_match = np.any([bucket[:2000] == bucket[2000:] for bucket in bucket_texts(pairs, bands)], axis=0)
    assert has_match.mean() == pytest.approx(1 - (1 - (40 / 60) ** bands.rows) ** bands.count, abs=0.03)


@pytest.mark.parametrize("similarity", [0.3, 0.5, 0.8, 0.95, 1.0])
def test_bands_find_a_pair_at_the_threshold(similarity: float):
    bands = choose_bands(similarity)
    assert 1 - (1 - similarity**bands.rows) ** bands.count >= 0.97


def test_a_bucket_of_thousands_costs_a_few_pairs_each():
    left, right = pair_candidates(np.zeros(5000, dtype=np.uint64), np.arange(5000))
    assert len(left) < 8 * 5000 and len(np.unique(find_clusters(left, right, 5000))) == 1


def test_clusters_join_long_chains():
    nodes = np.random.default_rng(3).permutation(1000)
    roots = find_clusters(nodes[:-1], nodes[1:], 1001)
    assert (roots[:1000] == 0).all() and roots[1000] == 1000


def test_near_duplicates_are_found_in_scripts_without_spaces_and_with_vowel_signs():
    texts = [
        "昨天傍晚他们沿着河边的小路走了很久，谈起小时候在乡下放牛、捉鱼、看露天电影的日子。",
        "昨天傍晚，他们沿着河边的小路走了好久，谈起小时候在乡下放牛、捉鱼、看露天电影的日子",
        "面团在温暖的地方放一个小时，等它涨到两倍大，再放进滚烫的烤箱里烤二十分钟。",
        "แม่น้ำสายใดยาวที่สุดในประเทศไทยและไหลผ่านจังหวัดใดบ้าง",
        "แม่น้ำสายใดยาวที่สุดในประเทศไทย และไหลผ่านจังหวัดใดกันบ้าง",
        "कल शाम वे नदी के किनारे बहुत देर तक चलते रहे और बचपन की बातें करते रहे",
        "कल शाम वे नदी के किनारे बहुत देर तक चलते रहे, और बचपन की ही बातें करते रहे",
    ]
    assert find_pairs(texts, 0.6) == {(0, 1), (3, 4), (5, 6)}
