"""Config of the probe of the new token's meaning."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from delia_ray.core.config import Config
from delia_ray.core.errors import UserError
from delia_ray.tasks.config import FormatTask, TaskConfig
from delia_ray.tasks.format_task import TOKEN_MEANING

_FORMAT_CONCEPTS = ("json", "JSON", "format", "key", "thought", "hallucination", "yes", "no")
_FORMAT_LEAKS = ("JSON", "thought", "hallucination")

ConceptWord = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class TokenProbeConfig(Config):
    """Settings of the probe of what the task's new token means to each model (docs/method.md, What a token means)."""

    concepts: tuple[ConceptWord, ...] | None = None
    """Words that say what the token should come to mean. null: those of the built-in format task; other tasks must name theirs."""
    pieces: Literal["mean", "last"] = "mean"
    """State of a word of several vocabulary entries: the mean of their states, or the last one's."""
    meaning: str | None = Field(default=None, min_length=1)
    """Words that can replace the token in a prompt. null: those of the built-in format task; for other tasks, no substitution."""
    leak_words: tuple[ConceptWord, ...] | None = None
    """Words that leak the meaning in an answer. null: the concepts; for the built-in format task JSON and its two keys."""
    carriers: int = Field(default=64, ge=50, le=64)
    """Carrier sentences in which the states of the token and of every word are read."""
    random_words: int = Field(default=200, ge=10)
    """Words of the vocabulary sampled for comparison."""
    neighbors: int = Field(default=10, ge=1)
    """Nearest rows of the embedding to list."""
    lens_words: int = Field(default=5, ge=1)
    """Most likely words to list at each layer."""
    prompts: int = Field(default=16, ge=1)
    """Test prompts of the substitution, and prompts of the negation."""
    answer_tokens: int = Field(default=48, ge=1)
    """Longest greedy answer, in tokens."""
    resamples: int = Field(default=1000, ge=1000)
    """Bootstrap resamples."""
    seed: int = 0
    """Seed of the sampled words, the noise row and the bootstrap."""

    def fill_defaults(self, task: TaskConfig) -> "TokenProbeConfig":
        """Return a copy with the defaults of ``task`` in place of None.

        Raises:
            UserError: the task has no new token, or its concepts are not known.
        """
        if task.token is None:
            raise UserError("task.token: found null; `delia probe tokens` looks at the task's new token, so name the one that its rows use")
        is_built_in = isinstance(task, FormatTask)
        concepts = self.concepts or (_FORMAT_CONCEPTS if is_built_in else ())
        if not concepts:
            raise UserError(
                f"probe.tokens.concepts: name the words that {task.token} should come to mean, "
                f"as in 'probe.tokens.concepts=[json, key]'; found {self.concepts} for task.kind={task.kind}"
            )
        leak_words = self.leak_words or (_FORMAT_LEAKS if is_built_in else concepts)
        meaning = self.meaning or (TOKEN_MEANING if is_built_in else None)
        return self.model_copy(update={"concepts": concepts, "leak_words": leak_words, "meaning": meaning})
