"""What a verb says last: where its results lie, and the commands that use them."""

import os
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from delia_ray.artifacts import DATA, Artifact
from delia_ray.reporting.table import results_table, retention_table
from delia_ray.settings import Settings
from delia_ray.terminal import Terminal

_FEW = 6
"""Arms that get a line each."""


@dataclass(frozen=True)
class Given:
    """The words that said what to run, to be said again to another verb."""

    files: Sequence[Path]
    settings: Sequence[str]

    def command(self, verb: str) -> str:
        """``delia VERB`` over the same run, as this shell finds it: ``make`` calls a ``delia`` that is not on the PATH."""
        return shlex.join([*_program(), verb, *(word for file in self.files for word in ("--config", str(file))), *self.settings])


def model_folders(settings: Settings) -> dict[str, Path]:
    """Where the tuned model of each arm lies when it is finished."""
    return {name: settings.run.path / "arms" / name / "model" / DATA for name, arm in settings.arms.items() if arm is not None}


def tell_report(report: Artifact, models: Mapping[str, Path], given: Given, terminal: Terminal) -> None:
    """The table, the models, and where the page is."""
    terminal.show(results_table(report))
    tell_models(models, given, terminal)
    tell_page(report, terminal)


def tell_models(models: Mapping[str, Path], given: Given, terminal: Terminal) -> None:
    """Where the tuned models lie, and the two lines that use one."""
    tuned = {name: shown(folder) for name, folder in models.items()}
    last = tuned[list(tuned)[-1]]
    width = max(map(len, tuned))
    places = [f"  {name:<{width}}  {place}" for name, place in tuned.items()]
    if len(tuned) > _FEW:
        folder = list(models.values())[-1]  # arms/NAME/model/data
        pattern = folder.parents[2] / "ARM" / folder.relative_to(folder.parents[1])
        places = [f"  {shown(pattern)}  with ARM among {', '.join(tuned)}"]
    uses = [f'  AutoModelForCausalLM.from_pretrained("{last}")', f"  {given.command('serve')}"]
    terminal.say("\n".join(["models:", *places, "to use them:", *uses]))


def tell_checkpoints(checkpoints: dict[str, Artifact], given: Given, terminal: Terminal) -> None:
    """Where the trained weights lie, and what makes whole models of them."""
    width = max(map(len, checkpoints))
    places = [f"  {name:<{width}}  {shown(checkpoint.data)}" for name, checkpoint in checkpoints.items()]
    terminal.say("\n".join(["checkpoints:", *places, "to make models of them:", f"  {given.command('export')}"]))


def tell_retention(retention: Artifact, terminal: Terminal) -> None:
    """The table of lm-eval's tasks."""
    terminal.show(retention_table(retention))


def tell_page(artifact: Artifact, terminal: Terminal) -> None:
    """Where an artifact's page is."""
    terminal.say(f"{artifact.path.name}: {shown(artifact.data / 'index.html')}")


def shown(path: Path) -> str:
    """``path`` as it can be given from the working folder."""
    return os.path.relpath(path)


def _program() -> list[str]:
    if shutil.which("delia"):
        return ["delia"]
    beside = Path(sys.executable).with_name("delia")
    return [shown(beside)] if beside.exists() else [sys.executable, "-m", "delia_ray.cli"]
