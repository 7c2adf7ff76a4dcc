from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from delia_ray.config import Config


class Sampling(Config):
    """How an answer is drawn."""

    temperature: float = Field(default=0.7, ge=0)
    """0 is greedy decoding."""
    top_p: float = Field(default=0.95, gt=0, le=1)
    """Nucleus; 1 switches it off."""
    top_k: int = Field(default=0, ge=0)
    """Candidates; 0 switches it off. On a CPU ``top_k: 50, top_p: 1`` is far cheaper than a nucleus."""
    max_tokens: int = Field(default=512, ge=1)
    """Longest answer, in tokens; longer ones are rejected as truncated."""


class MagpieQueries(Config):
    """The model writes user turns itself, from the user-turn prefix alone (Magpie, arXiv 2406.08464).

    A query ends at its first line break; one that runs into ``max_tokens`` is cut after its last whole sentence.
    """

    kind: Literal["magpie"] = "magpie"
    rows: int | None = Field(default=None, ge=1)
    """Queries to draw. null: twice what the mixture needs, since some are rejected."""
    temperature: float = Field(default=1.0, ge=0)
    """Temperature of the queries."""
    top_k: int = Field(default=0, ge=0)
    """Candidates of the queries; 0 switches the limit off."""
    max_tokens: int = Field(default=64, ge=1)
    """Longest query, in tokens."""


class FileQueries(Config):
    """Queries from a JSONL or Parquet file with a column ``query`` and, if known, ``reference`` and ``topic``."""

    kind: Literal["file"]
    path: Path
    """The file."""


Queries = Annotated[MagpieQueries | FileQueries, Field(discriminator="kind")]


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


class OwnEmbeddings(Config):
    """A text's vector is the tuned model's own last hidden state, averaged over the text's tokens: nothing to download."""

    kind: Literal["own"] = "own"
    texts: int = Field(default=200, ge=2, le=5_000)
    """Queries, and as many answers, to embed at most."""


class FolderEmbeddings(Config):
    """An encoder in a folder, as sentence-transformers saves one, averaged over the text's tokens."""

    kind: Literal["folder"]
    path: Path
    """The folder."""
    texts: int = Field(default=200, ge=2, le=5_000)
    """Queries, and as many answers, to embed at most."""


Embeddings = Annotated[OwnEmbeddings | FolderEmbeddings, Field(discriminator="kind")]


class SynthesizeConfig(Config):
    """What diverse data to make, and how to look at it. Every field is in the identity of what it changes."""

    engine: GenerationEngine = VllmEngine()
    queries: Queries = MagpieQueries()
    mode: Literal["direct", "reference"] = "direct"
    """direct: answer the query alone. reference: where the query has a reference, show it first and ask again (METHOD 3.2)."""
    answers: Sampling = Sampling()
    system_prompt: str | None = "You are a helpful assistant. Answer in one or two short, complete sentences."
    """System turn while answering; it is not part of the training rows. null: the chat template's own."""
    seed: int = 0
    """Base seed; each row's own seed is a hash of this and its id."""
    embeddings: Embeddings | None = OwnEmbeddings()
    """What makes texts into vectors, to tell how far apart they lie. null: nothing does, and the pool is described by its words alone."""
    error_budget: float = Field(default=0.2, ge=0, le=1)
    """Share of rows that the engine may fail on (a prompt that is too long, say) before the stage stops with the reasons."""
