"""What a person sees while a run works: our lines alone, in order, whole; and the log, which has what everything else said."""

import subprocess
import sys
from pathlib import Path

import pytest
from screens import on_terminal

from delia_ray.core.artifacts import Artifact

TINY = Path(__file__).parents[2] / "jobs/configs/tiny.yaml"


def words(verb: str, model: Artifact) -> list[str]:
    return [sys.executable, "-m", "delia_ray", verb, "--config", str(TINY), f"model={model.data}"]


@pytest.mark.parametrize("columns", [80, pytest.param(120, marks=pytest.mark.slow)])
def test_a_run_on_workers_shows_its_own_lines_alone_and_its_log_has_what_the_workers_said(
    tiny_models: dict[str, Artifact], tmp_path: Path, columns: int
):
    shown = on_terminal(words("synthesize", tiny_models["one"]), columns, tmp_path)
    log = (tmp_path / "runs/tiny/logs/synthesize.log").read_text()
    assert shown.code == 0, log[-4000:]
    *steps, page = [line.split()[:2] for line in shown.screen.lines]
    assert steps == [["✓", name] for name in ("model", "task", "queries", "answers", "diversity")]
    assert page == ["diversity:", "runs/tiny/pages/diversity.html"]
    places = [log.find(f"✓ {name} ") for name in ("model", "task", "queries", "answers", "diversity")]
    assert -1 not in places and places == sorted(places), "the log has our lines, too"
    assert shown.screen.wrapped == 0 and max(map(len, shown.screen.lines)) <= columns
    assert "pid=" not in shown.raw and "pid=" in log, "Ray passes on what workers say, with their pid before it"


@pytest.mark.slow
def test_a_message_is_alone_on_the_terminal_although_workers_still_speak(tiny_models: dict[str, Artifact], tmp_path: Path):
    command = [*words("run", tiny_models["one"]), "synthesize.queries.rows=4"]
    shown = on_terminal(command, 120, tmp_path)
    assert shown.code == 2
    assert "pid=" not in shown.raw
    last = "".join(line for line in shown.screen.lines if not line.startswith("✓ "))
    assert last.startswith("delia: mix.ratio=2 needs 8 diverse rows") and last.endswith("lower mix.ratio to 1")


@pytest.mark.parametrize(
    ("environment", "escapes"),
    [pytest.param({"TERM": "dumb"}, False, marks=pytest.mark.slow), ({"NO_COLOR": "1"}, True)],
    ids=["dumb", "no color"],
)
def test_a_terminal_that_wants_no_colors_gets_none(
    tiny_models: dict[str, Artifact], tmp_path: Path, environment: dict[str, str], escapes: bool
):
    shown = on_terminal(words("rewrite", tiny_models["one"]), 80, tmp_path, **environment)
    assert shown.code == 0
    assert [line.split()[1] for line in shown.screen.lines] == ["model", "task", "rewrite"]
    assert not any(f"\x1b[{color}m" in shown.raw for color in ("32", "1;32", "31", "33", "36"))
    assert ("\x1b" in shown.raw) == escapes


def test_a_pipe_gets_one_plain_line_a_stage(tiny_models: dict[str, Artifact], tmp_path: Path):
    done = subprocess.run(words("rewrite", tiny_models["one"]), cwd=tmp_path, capture_output=True, text=True, timeout=300, check=True)
    assert [line.split()[:2] for line in done.stdout.splitlines()] == [["✓", "model"], ["✓", "task"], ["✓", "rewrite"]]
    assert "\x1b" not in done.stdout and "\r" not in done.stdout and done.stderr == ""
