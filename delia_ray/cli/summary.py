"""Print what the steps of a verb came to."""

import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from delia_ray.cli.terminal import Terminal
from delia_ray.pipeline.build import Built
from delia_ray.pipeline.steps import load
from delia_ray.reporting.summary import Summary, relative
from delia_ray.settings import Settings


@dataclass(frozen=True)
class Repeat:
    """The settings of a command line, to be given to another verb."""

    files: Sequence[Path]
    overrides: Sequence[str]

    def command(self, verb: str) -> str:
        """``delia VERB`` over the same run, as this shell finds it: ``make`` calls a ``delia`` that is not on the PATH."""
        return shlex.join([*_find_program(), verb, *(word for file in self.files for word in ("--config", str(file))), *self.overrides])


def print_summary(built: Sequence[Built], settings: Settings, repeat: Repeat, terminal: Terminal) -> None:
    """Print each step's tables and texts, and where its page is."""
    for each in built:
        summary: Summary = load(each.step.summary)(each.artifacts, settings, repeat.command) if each.step.summary and each.artifacts else ()
        for part in summary:
            terminal.say(part) if isinstance(part, str) else terminal.show(part)
        if each.page is not None:
            terminal.say(f"{each.step.role}: {relative(each.page)}")


def _find_program() -> list[str]:
    if shutil.which("delia"):
        return ["delia"]
    beside = Path(sys.executable).with_name("delia")
    return [relative(beside)] if beside.exists() else [sys.executable, "-m", "delia_ray"]
