"""What a verb prints at its end: tables, where the results are, and the commands that use them."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rich.console import RenderableType

from delia_ray.core.artifacts import DATA, Artifact
from delia_ray.core.layout import RunLayout
from delia_ray.core.storage.paths import is_remote, to_uri
from delia_ray.reporting.terminal_table import load_lm_eval_table, load_results_table
from delia_ray.settings import Settings

Summary = Sequence[str | RenderableType]
"""Texts, printed as they are, and tables."""
Command = Callable[[str], str]
"""Verb in, the command that runs it over the same settings out."""
_MAX_LISTED_ARMS = 6
"""More arms are shown as one pattern."""


def summarize_report(artifacts: Mapping[str, Artifact], settings: Settings, command: Command) -> Summary:
    """The table of a finished report, and where the models are."""
    (report,) = artifacts.values()
    return [load_results_table(report), _list_models(find_model_folders(settings), command)]


def summarize_models(_artifacts: Mapping[str, Artifact], settings: Settings, command: Command) -> Summary:
    """Where the tuned models are."""
    return [_list_models(find_model_folders(settings), command)]


def summarize_checkpoints(artifacts: Mapping[str, Artifact], _settings: Settings, command: Command) -> Summary:
    """Where the trained weights are, and the command that makes whole models of them."""
    width = max(map(len, artifacts))
    lines = [f"  {name:<{width}}  {relative(checkpoint.data)}" for name, checkpoint in artifacts.items()]
    return ["\n".join(["checkpoints:", *lines, "to make models of them:", f"  {command('export')}"])]


def summarize_lm_eval(artifacts: Mapping[str, Artifact], _settings: Settings, _command: Command) -> Summary:
    """The table of lm-eval's tasks."""
    (changes,) = artifacts.values()
    return [load_lm_eval_table(changes)]


def find_model_folders(settings: Settings) -> dict[str, Path]:
    """Find the folder of each arm's model, finished or not."""
    layout = RunLayout(settings.run.path)
    return {name: layout.of_arm(name, "model") / DATA for name, arm in settings.arms.items() if arm is not None}


def relative(path: Path) -> str:
    """Format ``path`` as it can be given from the working folder, in full if it is not below; an object by its URI."""
    if is_remote(path):
        return to_uri(path)
    shown = os.path.relpath(path)
    return os.path.abspath(path) if shown.startswith(os.pardir) else shown


def _list_models(folders: Mapping[str, Path], command: Command) -> str:
    """List the models' folders, and the two lines that use one."""
    tuned = {name: relative(folder) for name, folder in folders.items()}
    last = tuned[list(tuned)[-1]]
    width = max(map(len, tuned))
    lines = [f"  {name:<{width}}  {folder}" for name, folder in tuned.items()]
    if len(tuned) > _MAX_LISTED_ARMS:
        folder = list(folders.values())[-1]  # arms/NAME/model/data
        pattern = folder.parents[2] / "ARM" / folder.relative_to(folder.parents[1])
        lines = [f"  {relative(pattern)}  with ARM among {', '.join(tuned)}"]
    uses = [f'  AutoModelForCausalLM.from_pretrained("{last}")', f"  {command('serve')}"]
    return "\n".join(["models:", *lines, "to use them:", *uses])
