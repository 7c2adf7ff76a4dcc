"""Answers that outlive a failure: each as it comes, and all of a model between generation and scoring."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from delia_ray.core.building import may_build
from delia_ray.core.fingerprint import fingerprint
from delia_ray.evaluation.config import ScoreConfig
from delia_ray.evaluation.scoring import GenerationRow
from delia_ray.tasks.format_task import Prompt

CachedAnswers = tuple[list[GenerationRow], int]
"""The rows to score, and the number of tokens of all answers together."""


@dataclass(frozen=True)
class LoggedAnswer:
    """The answer to a prompt, and its number of tokens."""

    text: str
    tokens: int


class AnswerLog:
    """The answers that came so far, in a JSON Lines file; a line that was cut off when the process ended is ignored."""

    def __init__(self, file: Path):
        self._file = file

    def read(self) -> dict[str, LoggedAnswer]:
        """Return prompt id -> answer."""
        answers: dict[str, LoggedAnswer] = {}
        for line in self._file.read_text(encoding="utf-8").splitlines() if self._file.exists() else ():
            with suppress(json.JSONDecodeError):
                row = json.loads(line)
                answers[row["prompt_id"]] = LoggedAnswer(row["text"], row["tokens"])
        return answers

    def add(self, prompt_id: str, answer: LoggedAnswer) -> None:
        """Append an answer."""
        with self._file.open("a", encoding="utf-8") as stream:
            stream.write(f"\n{json.dumps({'prompt_id': prompt_id, **asdict(answer)})}")  # first, since the line before may be cut off


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

    @property
    def log(self) -> AnswerLog:
        """The answers so far, while they are generated."""
        self._file.parent.mkdir(parents=True, exist_ok=True)
        return AnswerLog(self._file.with_suffix(".jsonl"))

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
    """Remove the cached answers of finished scores at ``out``; none where nothing is built."""
    for file in out.parent.glob(f".{out.name}.answers-*") if may_build() else ():
        file.unlink()
