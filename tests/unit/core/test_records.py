from delia_ray.core.records import keyed_int, make_row_id


def test_ids_and_keys_are_stable():
    assert make_row_id("format", "train", "geography-001") == "bbb6a812aab017ee"
    assert keyed_int(7, "order", "row-1") == 6234207977862207681
    assert make_row_id("a", "b") != make_row_id("ab") and make_row_id("a", "b") != make_row_id("b", "a")


def test_keys_of_another_seed_or_purpose_order_rows_anew():
    ids = [f"row-{n}" for n in range(200)]
    orders = {tuple(sorted(ids, key=lambda i: keyed_int(seed, purpose, i))) for seed in (0, 1, -1) for purpose in ("draw", "order")}
    assert len(orders) == 6


def test_keys_spread_evenly():
    keys = [keyed_int(0, "order", f"row-{n}") / 2**63 for n in range(4000)]
    assert abs(sum(keys) / len(keys) - 0.5) < 0.02 and 0 <= min(keys) < 0.01 and 0.99 < max(keys) < 1
