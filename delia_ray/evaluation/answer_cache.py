"""Cache of a model's answers between generation and scoring, so that a metric that fails costs no answers."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from delia_ray.core.fingerprint import fingerprint
from delia_ray.evaluation.config import ScoreConfig
from delia_ray.evaluation.scoring import GenerationRow
from delia_ray.tasks.format_task import Prompt

CachedAnswers = tuple[list[GenerationRow], int]
"""The rows to score, and the number of tokens of all answers together."""


class AnswerCache:
    """The answers of one model to one list of prompts, in a file beside the scores that are not finished yet.

    The name of the file contains a hash of everything that the answers depend on, and of nothing that only the scoring depends on.

    Args:
        out: folder of the scores.
        source: the version of the stage, the fingerprints of the models and the precision they compute in.
        prompts: the prompts.
        base_answers: prompt id -> the base model's answer; None for the base model itself.
        config: the limits on the length of an answer.
    """

    def __init__(
        self, out: Path, source: Mapping[str, str], prompts: Sequence[Prompt], base_answers: Mapping[str, str] | None, config: ScoreConfig
    ):
        key: dict[str, Any] = {
            "asker": source,  # the names of the keys are hashed, too
            "prompts": [asdict(prompt) for prompt in prompts],
            "base_answers": base_answers,
            "max_tokens": config.max_tokens,
            "ordinary_tokens": config.ordinary_tokens,
        }
        self._file = out.with_name(f".{out.name}.answers-{fingerprint(key)}.json")

    def get_or_ask(self, ask: Callable[[], CachedAnswers]) -> CachedAnswers:
        """Return the answers that an earlier attempt stored; otherwise call ``ask``, store its result and return it."""
        if self._file.exists():
            stored = json.loads(self._file.read_text())
            return stored["rows"], stored["tokens"]
        rows, tokens = ask()
        unfinished = self._file.with_suffix(f".{os.getpid()}")
        unfinished.write_text(json.dumps({"rows": rows, "tokens": tokens}))
        unfinished.replace(self._file)
        return rows, tokens


def remove_cached_answers(out: Path) -> None:
    """Remove the cached answers of finished scores at ``out``."""
    for file in out.parent.glob(f".{out.name}.answers-*"):
        file.unlink()
