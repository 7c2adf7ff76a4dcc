from pathlib import Path

import pytest

from delia_ray.core.config import build_config
from delia_ray.core.errors import UserError
from delia_ray.settings import Settings
from delia_ray.synthesis.query_config import BlendQueries, split_by_weight
from delia_ray.synthesis.sources.blend import select_by_hash, select_by_id

BLEND = {"kind": "blend", "sources": [{"weight": 3, "kind": "magpie"}, {"kind": "file", "path": "faq.jsonl"}, {"kind": "self_instruct"}]}


def test_quotas_follow_the_weights_and_never_fall_as_the_blend_grows():
    before = [0, 0, 0]
    for rows in range(1, 300):
        quotas = split_by_weight([5, 3, 0.5], rows)
        assert sum(quotas) == rows
        assert all(abs(quota - rows * weight / 8.5) < 1.5 for quota, weight in zip(quotas, [5, 3, 0.5], strict=True))
        assert all(old <= new for old, new in zip(before, quotas, strict=True))
        before = quotas
    assert split_by_weight([2, 1, 1], 52_000_000) == [26_000_000, 13_000_000, 13_000_000]


def test_a_larger_quota_only_adds_rows():
    ids = [f"{number * 7919 % 100:02d}" for number in range(100)]
    for select in (lambda quota: select_by_hash(ids, quota, 1), lambda quota: select_by_id(ids, quota)):
        small, large = select(20), select(50)
        assert small.sum() == 20 and large.sum() == 50 and not (small & ~large).any()
    assert {each for each, is_selected in zip(ids, select_by_id(ids, 3), strict=True) if is_selected} == {"00", "01", "02"}


def test_what_the_user_leaves_open_is_filled_from_the_weights():
    settings = Settings.model_validate({"run": {"name": "r"}, "synthesize": {"queries": BLEND, "draws_per_query": 2}})
    queries = settings.resolve_synthesize("diverse", 100).queries
    assert isinstance(queries, BlendQueries)
    assert queries.rows == 100
    assert [getattr(part.source, "rows", None) for part in queries.sources] == [90, None, 20]
    assert [part.name for part in queries.sources] == ["magpie", "faq", "self_instruct"]


@pytest.mark.parametrize(
    ("sources", "named"),
    [
        ("[]", "must hold at least 1"),
        ("[{weight: 0, kind: magpie}]", "weight: must be above 0, found 0"),
        ("[{weight: .nan, kind: magpie}]", "weight"),
        ("[{kind: magpie}, {kind: magpie}]", "two are called 'magpie'; give one of them a `label`"),
        ("[{kind: blend}]", "unknown kind 'blend'; use 'magpie'"),
        ("[{kind: file}]", "path"),
    ],
)
def test_a_blend_that_cannot_be_is_refused_by_name(tmp_path: Path, sources: str, named: str):
    with pytest.raises(UserError, match=f"synthesize.queries.*{named}"):
        build_config(Settings, [], ["run.name=r", f"synthesize.queries={{kind: blend, sources: {sources}}}"])
