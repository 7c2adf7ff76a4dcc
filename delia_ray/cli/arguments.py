"""The command line: verbs, each with a parser and a help of its own."""

import argparse
import shutil
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import NoReturn

from delia_ray.cli.keys import list_sections
from delia_ray.core.errors import UserError
from delia_ray.pipeline.steps import STEPS

OTHER_VERBS = {
    "run": "all steps in order; what is finished is reused",
    "plan": "what `run` would do, and every mistake it would stop at: steps, rows, tokens, memory; starts nothing",
    "serve": "an OpenAI-compatible endpoint over the finished models, until interrupted",
    "submit": "a verb as a job on a Ray cluster, followed until it ends",
    "show": "the artifacts of a run, and what each was made from",
    "reproduce": "build a finished artifact again beside its run, and compare it and all it was made from",
    "init": "write a commented config to FILE, or to the standard output",
    "keys": "list the keys of a config, or those below one",
    "schema": "print the JSON Schema of a config, for editors",
    "help": "explain a verb or a key",
}
_TARGETS = {"reproduce": "ARTIFACT", "init": "FILE", "keys": "KEY", "help": "VERB|KEY", "submit": "VERB"}
"""Verbs that take one word that is no setting."""
WITHOUT_SETTINGS = ("init", "keys", "schema", "help")


@dataclass(frozen=True)
class Command:
    """A parsed command line."""

    verb: str
    """With the subject of ``probe`` in it: ``probe tokens``."""
    files: list[Path] = field(default_factory=list[Path])
    """Configs, later ones win."""
    overrides: list[str] = field(default_factory=list[str])
    """Settings as KEY=VALUE, which win over all configs."""
    target: str = ""
    """The word that is no setting, where the verb takes one."""
    waits: bool = True
    """Whether ``submit`` follows the job."""
    arms: tuple[str, ...] = ()
    """Models that ``serve`` serves; empty: all."""


def verbs() -> dict[str, str]:
    """Verb -> what it does: those that build a step in the order of the steps, then the others."""
    first, *others = OTHER_VERBS
    return {
        first: OTHER_VERBS[first],
        **{step.verb: step.help for step in STEPS if step.verb},
        **{verb: OTHER_VERBS[verb] for verb in others},
    }


def parse(argv: Sequence[str]) -> Command:
    """Parse the command line; ``--help`` and ``--version`` print and exit.

    Raises:
        UserError: no such verb, an unknown option, or a word that the verb does not take.
    """
    if not argv or argv[0] in ("-h", "--help"):
        return Command("help")
    if argv[0] == "--version":
        return Command("version")
    if argv[1:2] in (["-h"], ["--help"]) and subjects(argv[0]):
        return Command("help", target=argv[0])
    verb, rest = _split_verb(list(argv))
    args = verb_parser(verb).parse_intermixed_args(rest)
    words: list[str] = args.words
    targets = [word for word in words if "=" not in word] if verb in _TARGETS else []
    if verb == "help" and len(targets) == len(words):
        return Command("help", target=" ".join(words))  # a verb may have two
    if verb == "submit":
        return Command(verb, args.config, [word for word in words if "=" in word], " ".join(targets), waits=not args.no_wait)
    if len(targets) > 1:
        raise UserError(f"{verb}: takes one {_TARGETS[verb]}, found {' '.join(targets)}; name one")
    if verb in WITHOUT_SETTINGS and len(words) > len(targets):
        raise UserError(f"{verb}: takes no settings, found {words[-1]}; `delia {verb} --help` says what it takes")
    overrides = [word for word in words if word not in targets]
    arms = tuple(arm for arm in getattr(args, "arms", "").split(",") if arm)
    return Command(verb, getattr(args, "config", []), overrides, "".join(targets), arms=arms)


def subjects(head: str) -> dict[str, str]:
    """Verbs of two words that begin with ``head`` -> what they do."""
    return {verb: text for verb, text in verbs().items() if verb.startswith(f"{head} ")}


def verb_parser(verb: str) -> argparse.ArgumentParser:
    """The parser of one verb, with its help."""
    target, summary = _TARGETS.get(verb, ""), verbs()[verb]
    settings = "" if verb in WITHOUT_SETTINGS else "[--config FILE ...] [KEY=VALUE ...]"
    words = " ".join(part for part in (f"[{target}]" if verb in WITHOUT_SETTINGS and target else target, settings) if part)
    parser = _Parser(
        prog=f"delia {verb}",
        usage=f"delia {verb} {words}".rstrip(),
        description=_fill(f"{summary[:1].upper()}{summary[1:]}."),
        epilog=_epilog(verb),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("words", nargs="*", metavar=target or "KEY=VALUE", help=argparse.SUPPRESS)
    if settings:
        parser.add_argument("--config", action="append", type=Path, default=[], metavar="FILE", help="a YAML file; later ones win")
    if verb == "submit":
        parser.add_argument("--no-wait", action="store_true", help="return when the job is submitted")
    if verb == "serve":
        parser.add_argument("--arms", default="", metavar="A,B", help="finished models to serve, `base` among them; all unless given")
    return parser


def overview() -> str:
    """What ``delia --help`` prints."""
    return "\n".join(
        [
            "usage: delia VERB [--config FILE ...] [KEY=VALUE ...]",
            "",
            _fill("Tune a language model on a small task and its own diverse answers (DELIA, arXiv 2408.10841)."),
            "",
            "verbs:",
            *_tabulate(verbs()),
            "",
            "`delia VERB --help` explains a verb, and `delia keys SECTION` lists keys.",
            "--version prints the version.",
            "",
            "  delia init my.yaml",
            "  delia run --config my.yaml mix.ratio=4",
        ]
    )


def explain_subjects(head: str) -> str:
    """What ``delia probe --help`` prints: the verbs of two words that begin with ``head``."""
    lines = _tabulate(subjects(head))
    more = _fill(f"`delia {head} SUBJECT --help` explains one, and `delia keys {head}` lists its keys.")
    return "\n".join([f"usage: delia {head} SUBJECT [--config FILE ...] [KEY=VALUE ...]", "", "verbs:", *lines, "", more])


class _Parser(argparse.ArgumentParser):
    """Reports a mistake in one line, as every other mistake is reported."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; `{self.prog} --help` shows what it takes")


def _split_verb(argv: list[str]) -> tuple[str, list[str]]:
    known = verbs()
    for count in (2, 1):
        if (verb := " ".join(argv[:count])) in known:
            return verb, argv[count:]
    if names := [verb.partition(" ")[2] for verb in subjects(argv[0])]:
        found = f"{argv[1]!r}" if len(argv) > 1 else "nothing"
        raise UserError(f"{argv[0]}: found {found}; name {' or '.join(names)}")
    near = get_close_matches(argv[0], known, n=1, cutoff=0.7)
    raise UserError(f"no verb {argv[0]!r}; " + (f"did you mean {near[0]}?" if near else f"use {', '.join(known)}"))


def _epilog(verb: str) -> str:
    if verb in WITHOUT_SETTINGS:
        return ""
    sections = _fill(f"Sections of a config: {', '.join(list_sections())}.")
    return f"{sections}\n`delia keys SECTION` lists the keys of one. Example:\n\n  delia {verb} {_EXAMPLES.get(verb, '--config my.yaml')}"


_EXAMPLES = {
    "run": "--config my.yaml mix.ratio=4 run.name=ratio4",
    "reproduce": "runs/my-run/report",
    "submit": "run --config my.yaml run.root=/mnt/runs",
}


def _tabulate(explained: Mapping[str, str]) -> list[str]:
    width = max(map(len, explained)) + 2
    return [_fill(f"{verb:<{width}}{text}", initial="  ", following=" " * (width + 2)) for verb, text in explained.items()]


def _fill(text: str, initial: str = "", following: str = "") -> str:
    width = shutil.get_terminal_size().columns
    return textwrap.fill(text, width, initial_indent=initial, subsequent_indent=following, break_long_words=False, break_on_hyphens=False)
