import numpy as np
import pytest

from delia_ray.mixing.minhash import Shingles, bands_for, buckets, candidates, clusters, jaccard, shingles

WORDS = [f"word{n}" for n in range(3000)]


def sets(texts: list[str]) -> list[set[tuple[str, ...]]]:
    parted = [text.casefold().split() for text in texts]
    return [{tuple(words[n : n + 3]) for n in range(max(len(words) - 2, 1))} for words in parted]


def planted(count: int) -> tuple[list[str], int]:
    """Texts; each of the first ``count`` again with a word or two replaced, and others of which half is replaced."""
    chance = np.random.default_rng(0)
    plain = [[WORDS[n] for n in chance.integers(0, len(WORDS), 60)] for _ in range(5 * count)]

    def edited(words: list[str], edits: int) -> list[str]:
        places = set(chance.choice(len(words), edits, replace=False).tolist())
        return ["other" if place in places else word for place, word in enumerate(words)]

    near = [edited(words, 1 + n % 2) for n, words in enumerate(plain[:count])]
    far = [edited(words, 8) for words in plain[-count:]]
    return [" ".join(words) for words in [*plain, *near, *far]], 5 * count


def linked(texts: list[str], similarity: float) -> set[tuple[int, int]]:
    made, found = shingles(texts), set()
    for bucket in buckets(made, bands_for(similarity)):
        left, right = candidates(bucket, np.arange(len(texts)))
        alike = jaccard(made, left, right) >= similarity
        found |= {(min(pair), max(pair)) for pair in zip(left[alike].tolist(), right[alike].tolist(), strict=True)}
    return found


def test_planted_near_duplicates_are_found_and_nothing_else():
    texts, first = planted(300)
    found = linked(texts, 0.8)
    truth = {(n, first + n) for n in range(300)}
    assert len(found & truth) >= 0.97 * len(truth) and found <= truth


def test_the_order_of_texts_decides_nothing():
    texts, _ = planted(40)
    order = np.random.default_rng(1).permutation(len(texts)).tolist()
    shuffled = linked([texts[n] for n in order], 0.8)
    assert {tuple(sorted((order[left], order[right]))) for left, right in shuffled} == linked(texts, 0.8)


def test_jaccard_is_that_of_the_sets_of_runs_of_three_words():
    texts = ["a b c d", "A  b, c", "b c d e a b c", "a b", "a b c d a b c"]
    made, exact = shingles(texts), sets(["a b c d", "a b c", "b c d e a b c", "a b", "a b c d a b c"])
    left, right = np.triu_indices(len(texts))
    expected = [len(exact[a] & exact[b]) / len(exact[a] | exact[b]) for a, b in zip(left, right, strict=True)]
    assert jaccard(made, left, right) == pytest.approx(expected)


def test_shingles_are_the_same_in_every_process():
    made = shingles(["Why do bees dance?", "", "?!", "Why"])
    assert made.sizes.tolist() == [2, 0, 0, 1]
    assert made.hashes.tolist() == [172341108419679, 210694164353339, 173351241705872]


def test_texts_share_a_bucket_as_often_as_theory_says():
    bands, chance = bands_for(0.8), np.random.default_rng(2)
    values = chance.integers(0, 2**48, (2000, 50), dtype=np.uint64)
    other = values.copy()
    other[:, :10] = chance.integers(0, 2**48, (2000, 10), dtype=np.uint64)
    pairs = Shingles(np.sort(np.concatenate([values, other]), axis=1).ravel(), np.arange(0, 4001) * 50)
    met = np.any([bucket[:2000] == bucket[2000:] for bucket in buckets(pairs, bands)], axis=0)
    assert met.mean() == pytest.approx(bands.chance(40 / 60), abs=0.03)


@pytest.mark.parametrize("similarity", [0.3, 0.5, 0.8, 0.95, 1.0])
def test_bands_find_a_pair_at_the_threshold(similarity: float):
    assert bands_for(similarity).chance(similarity) >= 0.97


def test_a_bucket_of_thousands_costs_a_few_pairs_each():
    left, right = candidates(np.zeros(5000, dtype=np.uint64), np.arange(5000))
    assert len(left) < 8 * 5000 and len(np.unique(clusters(left, right, 5000))) == 1


def test_clusters_join_long_chains():
    nodes = np.random.default_rng(3).permutation(1000)
    roots = clusters(nodes[:-1], nodes[1:], 1001)
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
    assert linked(texts, 0.6) == {(0, 1), (3, 4), (5, 6)}
