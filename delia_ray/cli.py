"""``delia VERB --config a.yaml [--config b.yaml] [key.path=value ...]``"""

import os
import shutil
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from importlib import resources
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

from filelock import FileLock, Timeout

from delia_ray.artifacts import Provenance
from delia_ray.command_line import probe_subject, read_command
from delia_ray.config import build_config
from delia_ray.errors import UserError
from delia_ray.experiment.config import ExperimentSettings
from delia_ray.full_disk import TellsFullDisk
from delia_ray.replay.recorded import Recorded, all_models_finished, kept
from delia_ray.settings import Settings

if TYPE_CHECKING:
    from delia_ray.terminal import Terminal

_SERVING = ("run", "score", "report", "serve")
_TAIL_LINES = 30


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb. Returns the exit code: 0 done, 1 failed, 2 something the user can fix."""
    try:
        verb, files, words = read_command(argv)
        if verb == "init":
            return _init([*files, *words])
        if verb == "replay":
            return _replay(files, words)
        work, overrides = probe_subject(verb, words)
        settings = build_config(ExperimentSettings if work == "experiment" else Settings, files, overrides)
        if work == "show":
            from delia_ray.lineage import show  # noqa: PLC0415

            print("\n".join(show(settings.run.path)))
            return 0
        return _work(work, settings, partial(_build, work, files, overrides))
    except UserError as error:
        print(f"delia: {error}", file=sys.stderr)
        return 2


def _init(given: Sequence[object]) -> int:
    """Print the template.

    Raises:
        UserError: something is to be changed in it.
    """
    if given:
        raise UserError(f"init: takes no settings, found {given[0]}; write the config to a file (`delia init > my.yaml`) and edit that")
    print(resources.files("delia_ray").joinpath("template.yaml").read_text(encoding="utf-8"), end="")
    return 0


def _replay(files: Sequence[Path], words: Sequence[str]) -> int:
    """Build the artifact that ``words`` name again; the rest of them are settings.

    Raises:
        UserError: none is named, or it cannot be built again as it was.
    """
    named = [word for word in words if "=" not in word]
    if len(named) != 1:
        raise UserError(f"replay: name one artifact's folder, for example runs/demo/report, found {named or 'none'}")
    recorded = Recorded.find(Path(named[0]))

    def build(settings: Settings, terminal: "Terminal", stream: TextIO) -> int:
        from delia_ray.replay.rebuild import replay  # noqa: PLC0415  Ray and transformers take seconds to import

        return replay(recorded, settings, terminal, stream, provenance())

    return _work("replay", recorded.settings(files, [word for word in words if "=" in word]), build)


def _work(verb: str, settings: Settings, build: Callable[[Settings, "Terminal", TextIO], int]) -> int:
    from delia_ray.terminal import Terminal, chatter_to  # noqa: PLC0415  --help needs no terminal

    log = settings.run.path / "logs" / f"{verb.replace(' ', '-')}.log"
    sys.excepthook = partial(_show_failure, verb, log)
    with _without_traces(settings.run.path), chatter_to(log) as stream:
        try:
            reads = verb == "serve" and all_models_finished(settings)
            with TellsFullDisk(settings.run.path), _locked(settings.run.path), nullcontext() if reads else kept(settings):
                return build(settings, Terminal(stream, log), stream)
        except KeyboardInterrupt:
            stream.write("\ninterrupted; the same command goes on where this one stopped\n")
            return 130


def _build(verb: str, files: Sequence[Path], overrides: Sequence[str], settings: Settings, terminal: "Terminal", stream: TextIO) -> int:
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    if isinstance(settings, ExperimentSettings):
        return _compare(settings, terminal)
    from delia_ray.closing import Given, model_folders, tell_checkpoints, tell_models, tell_page, tell_report, tell_retention  # noqa: PLC0415
    from delia_ray.pipeline import Pipeline  # noqa: PLC0415  Ray and transformers take seconds to import

    given = Given(files, overrides)
    with Pipeline(settings, terminal, provenance()) as pipeline:
        pipeline.check(serves=verb in _SERVING)
        match verb:
            case "synthesize":
                _ = pipeline.diversity
            case "rewrite":
                _ = pipeline.rewritten
            case "mix":
                pipeline.check_pools(pipeline.arms)
                _ = [pipeline.mixed(arm) for arm in pipeline.arms]
            case "finetune":
                pipeline.check_pools(pipeline.arms)
                tell_checkpoints({arm: pipeline.checkpoint(arm) for arm in pipeline.arms}, given, terminal)
            case "export":
                pipeline.models()
                tell_models(model_folders(settings), given, terminal)
            case "score":
                _ = pipeline.scores()
            case "retention":
                tell_retention(pipeline.retention(), terminal)
            case "probe-gradients" | "probe-tokens":
                tell_page(pipeline.probe() if verb == "probe-gradients" else pipeline.tokens_probe(), terminal)
            case "serve":
                models = pipeline.models()
                terminal.say(f"serving {', '.join(models)} at {pipeline.endpoint(models)}; Ctrl-C stops it")
                signal.pause()
            case _:
                if verb == "run" and settings.probe.tokens is not None:
                    tell_page(pipeline.tokens_probe(), terminal)  # before an endpoint takes the machine
                tell_report(pipeline.report(), model_folders(settings), given, terminal)
    return 0


def _compare(settings: ExperimentSettings, terminal: "Terminal") -> int:
    from delia_ray.closing import tell_page  # noqa: PLC0415
    from delia_ray.experiment.stage import experiment  # noqa: PLC0415

    tell_page(experiment(settings, terminal, provenance()), terminal)
    return 0


def provenance() -> Provenance:
    """The commit of the working folder, if it is a checkout, and this process's argv."""
    try:
        git = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    except FileNotFoundError:  # git is not installed, as in many images
        return Provenance(None, sys.argv)
    return Provenance(git.stdout.strip() or None, sys.argv)


class _BusyError(UserError):
    """Another process works on the run."""


@contextmanager
def _locked(run: Path) -> Generator[None]:
    """Keep a second process out of the run while this one works; the system lets go when the process dies."""
    try:
        with FileLock(run / ".lock", timeout=0):
            yield
    except Timeout:
        raise _BusyError(f"run.name: another process is working on {run}; wait for it, or give this run another name") from None


@contextmanager
def _without_traces(run: Path) -> Generator[None]:
    """Remove the folder of a run that was refused before it began: no log of it says more than the refusal."""
    made = [place for place in (run, *run.parents) if not place.exists()]
    try:
        yield
    except _BusyError:
        raise  # what lies there is the other's
    except UserError:
        files = {file.relative_to(run).parts[0] for file in run.rglob("*") if not file.is_dir()}
        if run in made and run.is_dir() and files <= {"logs", ".lock"}:
            shutil.rmtree(run)
            for place in made[1:]:
                with suppress(OSError):  # another run lies there by now
                    place.rmdir()
        raise


def _show_failure(verb: str, log: Path, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """The process's last words after a failure that is not the user's: the end of the log, and where the rest is."""
    from delia_ray.terminal import last_lines  # noqa: PLC0415

    with suppress(OSError), log.open("a") as stream:
        traceback.print_exception(kind, error, trace, file=stream)
    print(f"\ndelia {verb} failed. The end of {log}:\n", *last_lines(log, _TAIL_LINES), f"\nmore in {log}", sep="\n", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
