import numpy as np

from delia_ray.training.packing import NO_PREFIX, deal_out, pack, shared_prefix, split_by_tokens
from delia_ray.training.tokens import TokenisedRow


def row(*ids: int, learnt: int, group: str = "task") -> TokenisedRow:
    return TokenisedRow(list(ids), [int(place >= len(ids) - learnt) for place in range(len(ids))], group)


def test_positions_start_again_and_learnt_tokens_are_predicted_from_the_one_before():
    packed = pack([row(1, 2, 3, 4, learnt=2), row(5, 6, 7, learnt=1, group="diverse")])
    assert packed.ids_T.tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert packed.positions_T.tolist() == [0, 1, 2, 3, 0, 1, 2]
    assert packed.row_lengths == (4, 3)
    assert packed.targets_S.tolist() == [3, 4, 7]
    assert (packed.ids_T[packed.predicts_S + 1] == packed.targets_S).all()
    assert packed.groups_S.tolist() == [0, 0, 1]


def test_a_rows_first_token_is_never_predicted_from_its_neighbour():
    packed = pack([row(1, 2, learnt=2), row(3, 4, learnt=2)])
    assert packed.targets_S.tolist() == [2, 4]
    assert row(1, 2, learnt=2).learnt_tokens == 1


def test_a_prefix_stands_there_once_and_predicts_every_rows_first_token():
    rows = [row(8, 9, 1, 2, learnt=2), row(8, 9, 5, 6, 7, learnt=1, group="diverse")]
    prefix = shared_prefix(rows)
    packed = pack([each.after(len(prefix)) for each in rows], prefix)
    assert packed.prefix_length == 2 and packed.row_lengths == (2, 3)
    assert packed.ids_T.tolist() == [8, 9, 1, 2, 5, 6, 7]
    assert packed.positions_T.tolist() == [0, 1, 2, 3, 2, 3, 4]
    assert packed.targets_S.tolist() == [1, 2, 7]
    assert packed.ids_T[packed.predicts_S].tolist() == [9, 1, 6]
    assert packed.groups_S.tolist() == [0, 0, 1]


def test_a_prefix_is_what_all_rows_begin_with_and_none_learns():
    assert shared_prefix([row(1, 2, 3, 4, learnt=1), row(1, 2, 3, 5, learnt=1)]).tolist() == [1, 2, 3]
    assert shared_prefix([row(1, 2, 3, 4, learnt=1), row(1, 2, 3, 5, learnt=2)]).tolist() == [1, 2]
    assert shared_prefix([row(1, 2, 3, learnt=1), row(1, 4, 3, learnt=1), row(1, 2, 3, learnt=1)]).tolist() == [1]
    assert shared_prefix([row(1, 2, learnt=0), row(1, 2, 3, learnt=0)]).tolist() == [1]  # each row keeps a token
    for none in ([row(1, 2, learnt=1), row(3, 2, learnt=1)], [row(1, 2, learnt=2)] * 2, [row(1, 2, learnt=1)]):
        assert shared_prefix(none).tolist() == NO_PREFIX.tolist()


def test_a_token_keeps_its_kind():
    assert pack([TokenisedRow([7, 8, 9, 2], [0, 1, 2, 4], "task")]).kinds_S.tolist() == [1, 2, 4]


def test_bins_hold_every_row_once_within_the_limit():
    rng = np.random.default_rng(0)
    rows = [row(*range(int(n)), learnt=1) for n in rng.integers(1, 60, 200)]
    bins = split_by_tokens(rows, 64)
    assert sorted(len(r.ids) for members in bins for r in members) == sorted(len(r.ids) for r in rows)
    assert max(sum(len(r.ids) for r in members) for members in bins) <= 64
    assert len(bins) <= 1.25 * sum(len(r.ids) for r in rows) / 64


def test_a_row_longer_than_the_limit_stands_alone():
    assert [len(members) for members in split_by_tokens([row(*range(9), learnt=1), row(1, learnt=1)], 4)] == [1, 1]


def test_rows_are_dealt_out_evenly_and_none_is_lost():
    rows = [row(*range(length), learnt=1) for length in (9, 2, 5, 4, 8, 3)]
    parts = deal_out(rows, 2)
    assert sorted(len(each.ids) for part in parts for each in part) == [2, 3, 4, 5, 8, 9]
    assert [sum(len(each.ids) for each in part) for part in parts] == [16, 15]
    assert deal_out(rows[:1], 3) == [rows[:1], [], []]
