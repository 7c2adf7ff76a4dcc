"""Configuration of synthesis (``synthesize:``): engine, queries, answers and the diversity measures."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from delia_ray.core.config import Config
from delia_ray.core.errors import UserError
from delia_ray.embedding.config import FolderEncoder, OwnEncoder
from delia_ray.placement.engines import Quantization
from delia_ray.synthesis.query_config import MagpieQueries, Queries
from delia_ray.synthesis.structured_output import Structure

CONTEXT_LENGTH = 2048
"""Tokens of a prompt and its answer together that an engine holds at least, where the model takes as many."""


class Sampling(Config):
    """Sampling parameters of the answers."""

    temperature: float = Field(default=0.7, ge=0)
    """0 is greedy decoding."""
    top_p: float = Field(default=0.95, gt=0, le=1)
    """Nucleus sampling; 1 switches it off."""
    top_k: int = Field(default=0, ge=0)
    """Most likely tokens to sample from; 0 switches the limit off."""
    max_tokens: int = Field(default=512, ge=1)
    """Longest answer, in tokens; longer ones are rejected as truncated."""


class VllmEngine(Config):
    """The model that will be tuned, through ``ray.data.llm`` on vLLM actors."""

    kind: Literal["vllm"] = "vllm"
    quantization: Quantization | None = Field(default=None, exclude_if=lambda method: method is None)
    """Weights are quantized when the engine loads them, for smaller GPUs: the answers are those of the quantized model. fp8: of 8 bits, on
    GPUs of compute capability 8.9 or higher. bitsandbytes: of 4 bits; needs the package ``vllm-bnb-plugin`` on the workers. null: weights
    as they are stored."""


class OpenAIEngine(Config):
    """A model behind a server with the OpenAI API, called through ``/completions``; the key comes from ``OPENAI_API_KEY``.

    DELIA needs answers of the model that will be tuned (docs/method.md, Problem): the server should run that model.
    """

    kind: Literal["openai"]
    url: str = Field(pattern=r"^https?://")
    """Base URL, for example http://127.0.0.1:8000/v1."""
    model: str
    """The model's name at that server, as its /v1/models lists it."""


class EchoEngine(Config):
    """Completes a prompt with its last words reversed: no model, for tests and dry runs."""

    kind: Literal["echo"]


GenerationEngine = Annotated[VllmEngine | OpenAIEngine | EchoEngine, Field(discriminator="kind")]


class OwnEmbeddings(OwnEncoder):
    texts: int = Field(default=200, ge=2, le=5_000)
    """Queries, and as many answers, to embed at most."""


class FolderEmbeddings(FolderEncoder):
    texts: int = Field(default=200, ge=2, le=5_000)
    """Queries, and as many answers, to embed at most."""


Embeddings = Annotated[OwnEmbeddings | FolderEmbeddings, Field(discriminator="kind")]


class SynthesizeConfig(Config):
    """Diverse data to generate, and how to measure its diversity. Every field is in the identity of the artifacts it affects."""

    engine: GenerationEngine = VllmEngine()
    queries: Queries = MagpieQueries()
    mode: Literal["direct", "reference", "theory", "foreign"] = "direct"
    """direct: answer the query alone. reference: where the query has a reference, show it first and ask again (docs/method.md, Steps).
    theory (a control): as direct, from the model's whole distribution (temperature 1, no nucleus, no top-k), which the theory is about
    (docs/method.md, Theory). foreign (a control): the reference is the answer, and nothing is generated (docs/method.md, Arms)."""
    answers: Sampling = Sampling()
    system_prompt: str | None = "You are a helpful assistant. Answer in one or two short, complete sentences."
    """System turn while answering; it is not part of the training rows. null: the chat template's default."""
    structured: Structure | None = None
    """Structured output of every answer: a JSON schema, a regular expression, or one of several texts. null: free text."""
    draws_per_query: int = Field(default=1, ge=1)
    """Answers to each query, each with its own seed."""
    seed: int = 0
    """Base seed; each row's seed is a hash of this and its id."""
    embeddings: Embeddings | None = OwnEmbeddings()
    """Encoder of the texts for the diversity measures of vectors. null: none, and the measures are of words alone."""
    error_budget: float = Field(default=0.2, ge=0, le=1)
    """Share of rows that the engine may fail on (a prompt that is too long, say) before the stage stops with the reasons."""

    @model_validator(mode="after")
    def _check_answers_differ(self) -> Self:
        if self.draws_per_query > 1 and (self.mode == "foreign" or (self.mode != "theory" and not self.answers.temperature)):
            reason = "mode foreign generates nothing" if self.mode == "foreign" else "greedy answers are all alike"
            raise UserError(f"draws_per_query: found {self.draws_per_query}, but {reason}; set it to 1")
        return self

    @property
    def context_length(self) -> int:
        """Tokens that an engine holds of a prompt and its answer, unless ``placement.engine.max_model_len`` says otherwise."""
        return max(CONTEXT_LENGTH, 2 * self.answers.max_tokens)

    @property
    def sampling(self) -> Sampling:
        """Sampling parameters in this mode."""
        return self.answers.model_copy(update={"temperature": 1.0, "top_p": 1.0, "top_k": 0}) if self.mode == "theory" else self.answers
