from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from delia_ray.core.artifacts import Counts, Provenance, Workspace, build_once
from delia_ray.core.config import Config
from delia_ray.core.errors import UserError
from delia_ray.core.records import REJECT_SCHEMA
from delia_ray.mixing.pool_size import DiversePool, check_pool_size


def _write_step(pool: Path, name: str, rows: int, reasons: list[str]) -> None:
    def write(workspace: Workspace) -> Counts:
        (workspace.data / "rejects").mkdir()
        rejects = [{"row_id": str(number), "step": name, "reason": reason, "text": "x"} for number, reason in enumerate(reasons)]
        pq.write_table(pa.Table.from_pylist(rejects, schema=REJECT_SCHEMA), workspace.data / "rejects/0.parquet")
        return {"rows": rows, "rejected": len(reasons)}

    provenance = Provenance(None, ["pytest"])
    build_once(pool / name, stage=f"{name}/1", kind=name, request=Config(), inputs={}, provenance=provenance, write=write)


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    _write_step(tmp_path, "queries", 90, ["truncated"] * 6 + ["loop"] * 3 + ["duplicate"])
    _write_step(tmp_path, "diverse", 62, ["truncated"] * 20 + ["refusal"] * 5 + ["loop"] * 2 + ["empty"])
    _write_step(
        tmp_path,
        "clean",
        50,
        ["near-duplicate of a (0.91)"] * 7 + ["near-duplicate of b"] * 2 + ["says the same as c"] * 2 + ["13 words in a row of d"],
    )
    return tmp_path


def test_the_message_says_what_each_step_left_out_and_why(pool: Path):
    with pytest.raises(UserError) as caught:
        check_pool_size(DiversePool(pool, 50), 80, 10, 8)
    message = str(caught.value)
    assert "mix.ratio=8 needs 80 diverse rows, but the pool holds 50: 30 are missing" in message
    assert "10 of 100 queries (truncated 6, loop 3, duplicate 1)" in message
    assert "28 of 90 answers (truncated 20, refusal 5, loop 2)" in message
    assert "12 of 62 exchanges (near-duplicate 9, says the same 2, 13 words in a row 1)" in message


def test_what_it_advises_would_do_at_the_rate_of_the_rows_so_far(pool: Path):
    with pytest.raises(UserError, match=r"raise pools\.few\.queries\.rows to 176 .*or lower arms\.a\.ratio to 5") as caught:
        check_pool_size(DiversePool(pool, 50, "pools.few.queries"), 80, 10, 8, "arms.a.ratio")
    assert 176 * 50 / 100 >= 80 and "\n" not in str(caught.value)


def test_a_pool_that_is_large_enough_or_not_asked_for_is_let_through(pool: Path):
    check_pool_size(DiversePool(pool, 50), 50, 10, 5)
    check_pool_size(DiversePool(pool / "nowhere", 0), 0, 10, 0)


def test_a_pool_of_which_nothing_is_left_is_no_division_by_nothing(pool: Path):
    with pytest.raises(UserError, match=r"holds 0: 4 are missing.*raise synthesize\.queries\.rows \(.*or lower mix\.ratio to 0"):
        check_pool_size(DiversePool(pool, 0), 4, 2, 2)
