"""A finished model's answers between the asking and the scoring: a metric that fails costs no answer."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from delia_ray.evaluation.config import ScoreConfig
from delia_ray.evaluation.scoring import Generation
from delia_ray.fingerprint import fingerprint
from delia_ray.tasks.formatted import Prompt

Asked = tuple[list[Generation], int]
"""The rows to score, and how many tokens the answers have together."""


class KeptAnswers:
    """The answers of one model to one list of prompts, in a file beside the scores that are not there yet.

    Its name has a hash of all that an answer depends on, and nothing of how it is scored.

    Args:
        out: where the scores go.
        asker: the version of the stage, the models and the precision they compute in.
    """

    def __init__(
        self, out: Path, asker: Mapping[str, str], prompts: Sequence[Prompt], base_answers: Mapping[str, str] | None, config: ScoreConfig
    ):
        limits = {"max_tokens": config.max_tokens, "ordinary_tokens": config.ordinary_tokens}
        asked: dict[str, Any] = {"asker": asker, "prompts": [asdict(prompt) for prompt in prompts], "base_answers": base_answers}
        self._file = out.with_name(f".{out.name}.answers-{fingerprint({**asked, **limits})}.json")

    def or_ask(self, ask: Callable[[], Asked]) -> Asked:
        """What was kept of an earlier attempt, or what ``ask`` gives, kept."""
        if self._file.exists():
            kept = json.loads(self._file.read_text())
            return kept["rows"], kept["tokens"]
        rows, tokens = ask()
        unfinished = self._file.with_suffix(f".{os.getpid()}")
        unfinished.write_text(json.dumps({"rows": rows, "tokens": tokens}))
        unfinished.replace(self._file)
        return rows, tokens


def drop_kept(out: Path) -> None:
    """Remove the kept answers of scores that are finished."""
    for file in out.parent.glob(f".{out.name}.answers-*"):
        file.unlink()
