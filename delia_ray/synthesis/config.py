from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from delia_ray.config import Config
from delia_ray.embedding.config import FolderEncoder, OwnEncoder
from delia_ray.errors import UserError
from delia_ray.synthesis.query_config import MagpieQueries, Queries
from delia_ray.synthesis.structure import Structure


class Sampling(Config):
    """How an answer is drawn."""

    temperature: float = Field(default=0.7, ge=0)
    """0 is greedy decoding."""
    top_p: float = Field(default=0.95, gt=0, le=1)
    """Nucleus; 1 switches it off."""
    top_k: int = Field(default=0, ge=0)
    """Candidates; 0 switches it off."""
    max_tokens: int = Field(default=512, ge=1)
    """Longest answer, in tokens; longer ones are rejected as truncated."""


class VllmEngine(Config):
    """The model that will be tuned, through ``ray.data.llm`` on vLLM actors."""

    kind: Literal["vllm"] = "vllm"


class OpenAIEngine(Config):
    """A model behind a server with the OpenAI API, asked through ``/completions``; the key comes from ``OPENAI_API_KEY``.

    The buffering effect needs the answers of the model that will be tuned: let the server run that one.
    """

    kind: Literal["openai"]
    url: str = Field(pattern=r"^https?://")
    """Base URL, for example http://127.0.0.1:8000/v1."""
    model: str
    """The model's name at that server, as its /v1/models lists it."""


class EchoEngine(Config):
    """Answers with the prompt's last words reversed: no model, for tests and dry runs."""

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
    """What diverse data to make, and how to look at it. Every field is in the identity of what it changes."""

    engine: GenerationEngine = VllmEngine()
    queries: Queries = MagpieQueries()
    mode: Literal["direct", "reference", "theory", "foreign"] = "direct"
    """direct: answer the query alone. reference: where the query has a reference, show it first and ask again (METHOD 3.2).
    theory: as direct, from the model's whole distribution (temperature 1, no nucleus, no top-k). foreign: the reference is the
    answer, and nothing is drawn."""
    answers: Sampling = Sampling()
    system_prompt: str | None = "You are a helpful assistant. Answer in one or two short, complete sentences."
    """System turn while answering; it is not part of the training rows. null: the chat template's own."""
    structured: Structure | None = None
    """Form that every answer has: that of a JSON schema, of a regular expression, or one of several texts. null: any."""
    draws_per_query: int = Field(default=1, ge=1)
    """Answers to each query, each with a seed of its own."""
    seed: int = 0
    """Base seed; each row's own seed is a hash of this and its id."""
    embeddings: Embeddings | None = OwnEmbeddings()
    """What makes texts into vectors, to tell how far apart they lie. null: nothing does, and the pool is described by its words alone."""
    error_budget: float = Field(default=0.2, ge=0, le=1)
    """Share of rows that the engine may fail on (a prompt that is too long, say) before the stage stops with the reasons."""

    @model_validator(mode="after")
    def _draws_differ(self) -> Self:
        if self.draws_per_query > 1 and (self.mode == "foreign" or (self.mode != "theory" and not self.answers.temperature)):
            why = "mode foreign draws nothing" if self.mode == "foreign" else "greedy answers are all alike"
            raise UserError(f"draws_per_query: found {self.draws_per_query}, but {why}; set it to 1")
        return self

    @property
    def sampling(self) -> Sampling:
        """How answers are drawn in this mode."""
        return self.answers.model_copy(update={"temperature": 1.0, "top_p": 1.0, "top_k": 0}) if self.mode == "theory" else self.answers
