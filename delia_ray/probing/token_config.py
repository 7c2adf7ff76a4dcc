from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from delia_ray.config import Config
from delia_ray.errors import UserError
from delia_ray.tasks.config import FormatTask, TaskConfig
from delia_ray.tasks.formatted import MEANING

_FORMAT_CONCEPTS = ("json", "JSON", "format", "key", "thought", "hallucination", "yes", "no")
_FORMAT_LEAKS = ("JSON", "thought", "hallucination")

Word = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class TokenProbe(Config):
    """How to look at what the task's new token means to each model (METHOD 5)."""

    concepts: tuple[Word, ...] | None = None
    """Words that say what the token should come to mean. null: those of the built-in format task; other tasks must name theirs."""
    pieces: Literal["mean", "last"] = "mean"
    """What stands for a word of several vocabulary entries: the mean of their states, or the last one's."""
    meaning: str | None = Field(default=None, min_length=1)
    """Words that can take the token's place in a prompt. null: those of the built-in format task; for other tasks, no substitution."""
    leak_words: tuple[Word, ...] | None = None
    """Words that give the meaning away in an answer. null: the concepts; for the built-in format task JSON and its two keys."""
    carriers: int = Field(default=64, ge=50, le=64)
    """Sentences that the token and every word are read in."""
    random_words: int = Field(default=200, ge=10)
    """Words of the vocabulary drawn for comparison."""
    neighbours: int = Field(default=10, ge=1)
    """Nearest rows of the embedding to list."""
    lens_words: int = Field(default=5, ge=1)
    """Likeliest words to list at each layer."""
    prompts: int = Field(default=16, ge=1)
    """Test prompts of the substitution, and prompts of the negation."""
    answer_tokens: int = Field(default=48, ge=1)
    """Longest greedy answer, in tokens."""
    resamples: int = Field(default=1000, ge=1000)
    """Bootstrap resamples."""
    seed: int = 0
    """Seed of the drawn words, the noise row and the bootstrap."""

    def filled(self, task: TaskConfig) -> "TokenProbe":
        """With the defaults of ``task`` in place of null.

        Raises:
            UserError: the task has no new token, or its concepts are not known.
        """
        if task.token is None:
            raise UserError("task.token: found null; `delia probe tokens` looks at the task's new token, so name the one that its rows use")
        built_in = isinstance(task, FormatTask)
        concepts = self.concepts or (_FORMAT_CONCEPTS if built_in else ())
        if not concepts:
            raise UserError(
                f"probe.tokens.concepts: name the words that {task.token} should come to mean, "
                f"as in 'probe.tokens.concepts=[json, key]'; found {self.concepts} for task.kind={task.kind}"
            )
        leaks = self.leak_words or (_FORMAT_LEAKS if built_in else concepts)
        meaning = self.meaning or (MEANING if built_in else None)
        return self.model_copy(update={"concepts": concepts, "leak_words": leaks, "meaning": meaning})
