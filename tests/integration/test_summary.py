"""The last lines of a verb can be copied: paths in one piece, commands that name the same run, code that loads a model."""

import fcntl
import os
import pty
import re
import shlex
import struct
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM, LlamaForCausalLM

from delia_ray.cli.summary import Repeat
from delia_ray.cli.terminal import Terminal
from delia_ray.core.artifacts import Artifact
from delia_ray.reporting.summary import find_model_folders, summarize_checkpoints, summarize_models
from delia_ray.reporting.terminal_table import MetricTable
from delia_ray.settings import Settings

REPEAT = Repeat([Path("jobs/configs/demo.yaml"), Path("my other.yaml")], ["task.token=<t>", "run.name=a"])


class Screen:
    """A terminal of 80 columns and what was written to it."""

    def __init__(self, master: int, terminal: Terminal):
        self._master, self.terminal = master, terminal

    def lines(self) -> list[str]:
        return os.read(self._master, 65536).decode().splitlines()


@pytest.fixture
def screen() -> Iterator[Screen]:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    with os.fdopen(slave, "w") as stream:
        yield Screen(master, Terminal(stream))
    os.close(master)


def run_with_models(model: Artifact, root: Path, *arms: str) -> Settings:
    """The settings of a run whose arms all have the same model, at the end of a path that is longer than a line."""
    settings = Settings.model_validate(
        {"run": {"name": "r", "root": root / ("a folder with a long name " * 3).strip()}, "arms": {arm: {"ratio": 1} for arm in arms}}
    )
    for folder in find_model_folders(settings).values():
        folder.parent.mkdir(parents=True)
        folder.symlink_to(model.data)
    return settings


def say_models(screen: Screen, settings: Settings) -> list[str]:
    for part in summarize_models({}, settings, REPEAT.command):
        screen.terminal.say(str(part))
    return screen.lines()


def test_the_code_that_is_shown_loads_the_model_that_is_named(screen: Screen, tiny_models: dict[str, Artifact], tmp_path: Path):
    settings = run_with_models(tiny_models["one"], tmp_path, "sft", "delia")
    models, lines = find_model_folders(settings), say_models(screen, settings)
    assert [line.split()[0] for line in lines[1:3]] == ["sft", "delia"]
    for arm, line in zip(("sft", "delia"), lines[1:3], strict=True):
        assert line.strip().partition("  ")[2].strip() == str(models[arm])
    code = next(line.strip() for line in lines if "from_pretrained" in line)
    assert str(models["delia"]) in code
    assert isinstance(eval(code, {"AutoModelForCausalLM": AutoModelForCausalLM}), LlamaForCausalLM)


@pytest.mark.parametrize("on_path", [True, False])
def test_the_command_that_is_shown_is_there_and_serves_the_run_that_was_given(
    screen: Screen, tiny_models: dict[str, Artifact], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, on_path: bool
):
    (tmp_path / "delia").touch(mode=0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin" if on_path else "/usr/bin")
    program, *words = shlex.split(say_models(screen, run_with_models(tiny_models["one"], tmp_path / "runs", "sft"))[-1])
    assert words[-7:] == ["serve", "--config", "jobs/configs/demo.yaml", "--config", "my other.yaml", "task.token=<t>", "run.name=a"]
    assert program == "delia" if on_path else Path(program).is_file()


def test_many_models_are_told_by_their_pattern(screen: Screen, tiny_models: dict[str, Artifact], tmp_path: Path):
    models = [f"arm{number}" for number in range(9)]
    lines = say_models(screen, run_with_models(tiny_models["one"], tmp_path, *models))
    assert len([line for line in lines if "/data" in line and "from_pretrained" not in line]) == 1
    assert all(name in lines[1] for name in models) and "/arms/ARM/model/data" in lines[1]


def test_checkpoints_are_followed_by_what_makes_models_of_them(screen: Screen, tiny_models: dict[str, Artifact]):
    for part in summarize_checkpoints(tiny_models, Settings.model_validate({"run": {"name": "r"}}), REPEAT.command):
        screen.terminal.say(str(part))
    lines = screen.lines()
    assert [line.split()[0] for line in lines[1:3]] == ["one", "two"]
    assert "export" in shlex.split(lines[-1])


@pytest.mark.parametrize("columns", [80, 120])
def test_a_table_breaks_no_interval_in_two(screen: Screen, columns: int):
    fcntl.ioctl(screen.terminal.console.file.fileno(), termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    columns_of = [(name, 2 * [f"0.1{arm}1\n\\[0.0{arm}1, 0.2{arm}1]"]) for arm, name in enumerate(("base", "sft", "delia"))]
    table = MetricTable("run r", "metric", ["Format on request", "Format without the token"], columns_of)
    Terminal(screen.terminal.console.file).show(table)  # pyright: ignore[reportArgumentType]
    lines = screen.lines()
    assert max(map(len, map(_plain, lines))) <= columns
    for arm in range(3):
        assert sum(f"[0.0{arm}1, 0.2{arm}1]" in line for line in lines) == 2


def _plain(line: str) -> str:
    return re.sub(r"\x1b\[[\d;]*m", "", line)
