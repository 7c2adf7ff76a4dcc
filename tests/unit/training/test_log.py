import os
from pathlib import Path

from delia_ray.training.log import Logged


def test_progress_follows_a_log_that_a_resumed_run_has_cut(tmp_path: Path):
    log = tmp_path / "metrics.jsonl"
    line = '{"step": 1, "tokens": 7}\n'
    log.write_text(line * 3)
    done = Logged(log)
    assert done.read() == (3, 0)
    log.open("a").write(line + '{"step": 5, "tok')
    assert done.read() == (4, 7)
    (tmp_path / "new").write_text(line * 2)
    os.replace(tmp_path / "new", log)
    log.open("a").write(line * 4)
    assert done.read() == (6, 7)
    log.open("a").write(line)
    assert done.read() == (7, 14)
