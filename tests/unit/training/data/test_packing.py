import numpy as np

from delia_ray.training.data.packing import NO_PREFIX, balance_by_tokens, bin_pack, pack, shared_prefix
from delia_ray.training.data.tokens import TokenizedRow


def row(*ids: int, supervised: int, group: str = "task") -> TokenizedRow:
    return TokenizedRow(list(ids), [int(position >= len(ids) - supervised) for position in range(len(ids))], group)


def test_positions_start_again_and_supervised_tokens_are_predicted_from_the_one_before():
    packed = pack([row(1, 2, 3, 4, supervised=2), row(5, 6, 7, supervised=1, group="diverse")])
    assert packed.ids_T.tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert packed.positions_T.tolist() == [0, 1, 2, 3, 0, 1, 2]
    assert packed.row_lengths == (4, 3)
    assert packed.targets_S.tolist() == [3, 4, 7]
    assert (packed.ids_T[packed.predicts_S + 1] == packed.targets_S).all()
    assert packed.groups_S.tolist() == [0, 0, 1]


def test_a_rows_first_token_is_never_predicted_from_its_neighbor():
    packed = pack([row(1, 2, supervised=2), row(3, 4, supervised=2)])
    assert packed.targets_S.tolist() == [2, 4]
    assert row(1, 2, supervised=2).supervised_tokens == 1


def test_a_shared_prefix_is_packed_once_and_predicts_every_rows_first_token():
    rows = [row(8, 9, 1, 2, supervised=2), row(8, 9, 5, 6, 7, supervised=1, group="diverse")]
    prefix = shared_prefix(rows)
    packed = pack([each.drop_prefix(len(prefix)) for each in rows], prefix)
    assert packed.prefix_length == 2 and packed.row_lengths == (2, 3)
    assert packed.ids_T.tolist() == [8, 9, 1, 2, 5, 6, 7]
    assert packed.positions_T.tolist() == [0, 1, 2, 3, 2, 3, 4]
    assert packed.targets_S.tolist() == [1, 2, 7]
    assert packed.ids_T[packed.predicts_S].tolist() == [9, 1, 6]
    assert packed.groups_S.tolist() == [0, 0, 1]


def test_the_shared_prefix_is_what_all_rows_begin_with_and_none_supervises():
    assert shared_prefix([row(1, 2, 3, 4, supervised=1), row(1, 2, 3, 5, supervised=1)]).tolist() == [1, 2, 3]
    assert shared_prefix([row(1, 2, 3, 4, supervised=1), row(1, 2, 3, 5, supervised=2)]).tolist() == [1, 2]
    assert shared_prefix([row(1, 2, 3, supervised=1), row(1, 4, 3, supervised=1), row(1, 2, 3, supervised=1)]).tolist() == [1]
    assert shared_prefix([row(1, 2, supervised=0), row(1, 2, 3, supervised=0)]).tolist() == [1]  # each row keeps a token
    for rows in ([row(1, 2, supervised=1), row(3, 2, supervised=1)], [row(1, 2, supervised=2)] * 2, [row(1, 2, supervised=1)]):
        assert shared_prefix(rows).tolist() == NO_PREFIX.tolist()


def test_a_token_keeps_its_kind():
    assert pack([TokenizedRow([7, 8, 9, 2], [0, 1, 2, 4], "task")]).kinds_S.tolist() == [1, 2, 4]


def test_bins_hold_every_row_once_within_the_limit():
    rng = np.random.default_rng(0)
    rows = [row(*range(int(n)), supervised=1) for n in rng.integers(1, 60, 200)]
    bins = bin_pack(rows, 64)
    assert sorted(len(r.ids) for members in bins for r in members) == sorted(len(r.ids) for r in rows)
    assert max(sum(len(r.ids) for r in members) for members in bins) <= 64
    assert len(bins) <= 1.25 * sum(len(r.ids) for r in rows) / 64


def test_a_row_longer_than_the_limit_gets_a_bin_of_its_own():
    assert [len(members) for members in bin_pack([row(*range(9), supervised=1), row(1, supervised=1)], 4)] == [1, 1]


def test_rows_are_balanced_by_tokens_and_none_is_lost():
    rows = [row(*range(length), supervised=1) for length in (9, 2, 5, 4, 8, 3)]
    parts = balance_by_tokens(rows, 2)
    assert sorted(len(each.ids) for part in parts for each in part) == [2, 3, 4, 5, 8, 9]
    assert [sum(len(each.ids) for each in part) for part in parts] == [16, 15]
    assert balance_by_tokens(rows[:1], 3) == [rows[:1], [], []]
