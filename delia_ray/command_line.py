"""The words of a command: a verb, files of settings, and settings."""

import argparse
import shutil
import textwrap
from collections.abc import Sequence
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import NoReturn

from delia_ray.config import describe
from delia_ray.errors import UserError
from delia_ray.experiment.config import ExperimentSettings

VERBS = {
    "run": "all stages in order; what is finished already is reused",
    "synthesize": "diverse queries, the model's own answers, and how diverse they are",
    "rewrite": "the task's rows under many wordings of its instruction",
    "mix": "the training rows of every arm",
    "finetune": "train every arm",
    "export": "finished models, checked in transformers and in vLLM",
    "score": "ask every finished model over a live endpoint",
    "report": "the page and report.json",
    "retention": "tasks of lm-eval, asked of every finished model over a live endpoint: what tuning left of them",
    "experiment": "every arm at every ratio, size and seed of `experiment`, and one page over them",
    "probe": "`gradients`: the method's predictions, measured on the run's models; `tokens`: what the new token has come to mean to them",
    "serve": "an OpenAI-compatible endpoint over the finished models, until interrupted",
    "show": "the chain of artifacts of a run",
    "replay": "build a finished artifact again, in a folder beside its run, and compare it and all it was made from",
    "init": "write a commented config to the standard output",
}
_SUBJECTS = ("gradients", "tokens")
"""What ``delia probe`` can look at; the first unless another is named."""


def read_command(argv: Sequence[str] | None) -> tuple[str, list[Path], list[str]]:
    """The verb, the files of settings, and the words after it.

    Raises:
        UserError: there is no verb, or none of that name, or an unknown option.
    """
    args = _parser().parse_intermixed_args(argv)
    if not args.words:
        raise UserError(f"no verb; use {', '.join(VERBS)}")
    verb, *words = args.words
    if verb not in VERBS:
        near = get_close_matches(verb, VERBS, n=1, cutoff=0.7)
        raise UserError(f"no verb {verb!r}; " + (f"did you mean {near[0]}?" if near else f"use {', '.join(VERBS)}"))
    return verb, args.config, words


def probe_subject(verb: str, words: Sequence[str]) -> tuple[str, list[str]]:
    """What to do, with the subject of ``delia probe`` in it (``probe-gradients``), and the words that are settings.

    Raises:
        UserError: nothing of that name can be probed.
    """
    if verb != "probe":
        return verb, list(words)
    place = next((place for place, word in enumerate(words) if "=" not in word), None)
    subject = _SUBJECTS[0] if place is None else words[place]
    if subject not in _SUBJECTS:
        raise UserError(f"probe: {subject!r} cannot be probed; name {' or '.join(_SUBJECTS)}, and settings as KEY=VALUE")
    return f"{verb}-{subject}", [word for at, word in enumerate(words) if at != place]


class _Parser(argparse.ArgumentParser):
    """Says what is wrong with a command in one line, as every other mistake is told."""

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; `delia --help` lists the verbs and the keys")


def _parser() -> argparse.ArgumentParser:
    columns = shutil.get_terminal_size().columns
    filled = partial(textwrap.fill, width=columns, break_long_words=False, break_on_hyphens=False)
    verbs = [filled(f"{verb:<12}{text}", initial_indent="  ", subsequent_indent=" " * 14) for verb, text in VERBS.items()]
    keys = [filled(line.strip(), initial_indent="  ", subsequent_indent="      ") for line in describe(ExperimentSettings)]
    parser = _Parser(
        prog="delia",
        usage="delia VERB [--config FILE ...] [KEY=VALUE ...]",
        description=filled("Tune a language model on a small task and its own diverse answers (DELIA, arXiv 2408.10841)."),
        epilog="\n".join(["verbs:", *verbs, "", "keys, each settable as KEY=VALUE:", *keys]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "words",
        nargs="*",
        metavar="VERB KEY=VALUE",
        help="a verb; then settings, for example mix.ratio=4; after probe also what to look at, after replay the artifact's folder",
    )
    parser.add_argument("--config", action="append", type=Path, default=[], metavar="FILE", help="YAML file; later ones win")
    return parser
