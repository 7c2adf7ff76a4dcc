"""The command ``delia``: parse, do what the verb says, and turn the outcome into an exit code."""

import os
import sys
import warnings
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING

from delia_ray import __version__
from delia_ray.cli.arguments import OTHER_VERBS, WITHOUT_SETTINGS, Command, explain_subjects, overview, parse, subjects, verb_parser, verbs
from delia_ray.cli.keys import json_schema, list_keys
from delia_ray.cli.session import provenance, reading_session, session
from delia_ray.core.config import build_config
from delia_ray.core.errors import Stopped, UserError
from delia_ray.core.layout import RunLayout
from delia_ray.core.mirrored_run import pull_run
from delia_ray.core.storage.paths import mirror_uri
from delia_ray.pipeline.experiment.config import ExperimentSettings
from delia_ray.pipeline.reproduce.recorded import Recorded, keep_settings
from delia_ray.settings import Settings

if TYPE_CHECKING:
    from delia_ray.cli.terminal import Terminal

_NO_BARS = ("HF_HUB_DISABLE_PROGRESS_BARS", "1")
_QUIET = dict((_NO_BARS, ("TRANSFORMERS_VERBOSITY", "error")))
"""Environment of a verb that has no log for what libraries say."""

_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb. Returns the exit code: 0 done, 1 failed, 2 something the user can fix, 130 interrupted."""
    try:
        return _run(parse(sys.argv[1:] if argv is None else argv))
    except UserError as error:
        print(f"delia: {error}", file=sys.stderr)
        return 2


def _run(command: Command) -> int:
    match command.verb:
        case "version":
            _print(f"delia_ray {__version__}")
        case "help":
            _print(_explain(command.target))
        case "keys":
            _print(list_keys(command.target))
        case "schema":
            _print(json_schema())
        case "init":
            _write_template(command.target)
        case "show":
            _show(_settings(command))
        case "plan":
            return _plan(_settings(command))
        case "serve":
            return _serve(command)
        case "submit":
            return _submit(command)
        case "reproduce":
            return _reproduce(command)
        case verb:
            assert verb == "run" or verb not in OTHER_VERBS, f"no case for {verb}"
            return _build(command)
    return 0


def _print(text: str) -> None:
    """Print what was asked for; whoever closes the pipe early, such as ``head``, has read enough."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is flushed at exit


def _explain(target: str) -> str:
    """The overview, the help of a verb or of the first word of some, or the documentation of a key."""
    if not target:
        return overview()
    if subjects(target):
        return explain_subjects(target)
    return verb_parser(target).format_help().rstrip() if target in verbs() else list_keys(target)


def _write_template(file: str) -> None:
    """Write the commented config.

    Raises:
        UserError: the file exists, or cannot be written.
    """
    text = resources.files("delia_ray").joinpath("template.yaml").read_text(encoding="utf-8")
    if not file:
        _print(text.rstrip())
        return
    try:
        with Path(file).open("x", encoding="utf-8") as stream:
            stream.write(text)
    except OSError as error:
        raise UserError(f"init: {file}: {error.strerror}; name a file that does not exist, in a folder you may write to") from None
    print(f"{file}: edit model, task.train, task.test and task.metric, then `delia run --config {file}`")


def _settings(command: Command) -> Settings:
    schema = ExperimentSettings if command.verb == "experiment" else Settings
    return build_config(schema, command.files, command.overrides)


def _show(settings: Settings) -> None:
    from delia_ray.core.lineage import describe_artifacts  # noqa: PLC0415

    pull_run(settings.run.path)
    _print("\n".join(describe_artifacts(settings.run.path)))


@contextmanager
def _quiet_libraries() -> Generator[None]:
    """Let libraries that are imported in the block say nothing but errors, unless the environment says otherwise."""
    added = {name: value for name, value in _QUIET.items() if name not in os.environ}
    os.environ |= added
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]


def _plan(settings: Settings) -> int:
    """Print what is known of a run before it starts; the exit code is 2 if there are mistakes."""
    with _quiet_libraries(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of libraries about themselves, which other verbs send to their log
        from delia_ray.cli.plan import render_plan  # noqa: PLC0415  Ray and transformers take seconds to import
        from delia_ray.pipeline.plan.plan import make_plan  # noqa: PLC0415

        plan = make_plan(settings)
    _print(render_plan(plan, settings))
    return 2 if plan.errors else 0


def _build(command: Command) -> int:
    """Build the steps of a verb and print what they came to."""
    settings = _settings(command)

    def work(terminal: "Terminal") -> int:
        from delia_ray.cli.summary import Repeat, print_summary  # noqa: PLC0415  Ray and transformers take seconds to import
        from delia_ray.pipeline.build import build_verb  # noqa: PLC0415

        built = build_verb(command.verb, settings, terminal, provenance())
        print_summary(built, settings, Repeat(command.files, command.overrides), terminal)
        return 0

    return _work(command.verb, settings, work)


def _serve(command: Command) -> int:
    """Serve until interrupted. A second process may work on the run meanwhile."""
    settings, is_ready = _settings(command), False
    os.environ.setdefault(*_NO_BARS)
    with reading_session("serve", RunLayout(settings.run.path), settings.placement) as (terminal, log), suppress(KeyboardInterrupt):
        from delia_ray.pipeline.serve import serve  # noqa: PLC0415  Ray and transformers take seconds to import

        with serve(settings, command.arms, log, terminal.say) as served:
            page, is_ready = f"{served.url.removesuffix('/v1')}/", True
            terminal.say(f"serving {', '.join(served.models)} at {served.url}, with a page at {page}; Ctrl-C stops it")
            served.wait()
    if not is_ready:
        os._exit(_INTERRUPTED)  # a thread still waits until it is ready, and would abort the interpreter's orderly end
    return 0


def _submit(command: Command) -> int:
    """Run the verb that the command names on a cluster.

    Raises:
        UserError: none is named that can be.
    """
    if command.target not in verbs() or command.target in WITHOUT_SETTINGS or command.target in ("submit", "show"):
        raise UserError(f"submit: found {command.target!r}; name the verb to run there, for example `delia submit run --config my.yaml`")
    from delia_ray.cli.submit import submit  # noqa: PLC0415  for this verb alone

    schema = ExperimentSettings if command.target == "experiment" else Settings
    settings = build_config(schema, command.files, command.overrides)
    return submit(command.target, command.files, command.overrides, settings, waits=command.waits)


def _reproduce(command: Command) -> int:
    """Build the artifact that the command names once more.

    Raises:
        UserError: none is named, or it cannot be built again as it was.
    """
    if not command.target:
        raise UserError("reproduce: name an artifact's folder, for example runs/demo/report")
    place = mirror_uri(command.target) or Path(command.target)
    recorded = Recorded.find(place)

    def work(terminal: "Terminal") -> int:
        from delia_ray.pipeline.reproduce.rebuild import reproduce  # noqa: PLC0415  Ray and transformers take seconds to import

        return reproduce(recorded, settings, terminal, terminal.say, provenance())

    settings = recorded.settings(command.files, command.overrides)
    return _work("reproduce", settings, work)


def _work(verb: str, settings: Settings, work: "Callable[[Terminal], int]") -> int:
    os.environ.setdefault(*_NO_BARS)
    with session(verb, RunLayout(settings.run.path), settings.placement) as terminal:
        try:
            with keep_settings(settings):
                return work(terminal)
        except KeyboardInterrupt:
            terminal.say("\ninterrupted; the same command goes on where this one stopped")
            return 130
        except Stopped as stopped:
            terminal.say(f"stopped; a checkpoint is written at step {stopped.step}, and the same command goes on from it")
            return 143


if __name__ == "__main__":
    sys.exit(main())
