"""Configs of tasks: built-in format task, user messages, translation; new tokens and decontamination."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, field_validator, model_validator

from delia_ray.core.config import Config
from delia_ray.core.errors import UserError
from delia_ray.core.text.patterns import check_pattern
from delia_ray.tasks.answer_metrics import BleuTokens, Metrics, check_bleu_tokens


def _refuse_quotes(token: str) -> str:
    """Refuse a token in quotation marks, which a shell or YAML can leave."""
    if len(token) > 2 and token[0] == token[-1] and token[0] in "\"'`":
        raise UserError(f"{token} has quotation marks around it, which would be part of the token; write {token[1:-1]}")
    return token


NewToken = Annotated[str, Field(min_length=1, pattern=r"^\S+$"), AfterValidator(_refuse_quotes)]


class MeanInit(Config):
    """Initialize with the mean of all embedding rows."""

    kind: Literal["mean"] = "mean"


class NoiseInit(Config):
    """Initialize with Gaussian noise of the mean and standard deviation of the existing rows."""

    kind: Literal["noise"] = "noise"
    seed: int = 0
    """Seed of the noise."""


class DescriptionInit(Config):
    """Initialize with the mean of the embedding rows of a text that describes the token."""

    kind: Literal["description"] = "description"
    text: str = Field(min_length=1)
    """The text."""


class CopyInit(Config):
    """Initialize with the embedding row of an existing token."""

    kind: Literal["copy"] = "copy"
    token: str = Field(min_length=1)
    """The existing token, as spelled in the vocabulary."""


TokenInit = Annotated[MeanInit | NoiseInit | DescriptionInit | CopyInit, Field(discriminator="kind")]


class FormatTask(Config):
    """The paper's formatted generation task: judge an answer in a format that only a new token specifies."""

    kind: Literal["format"] = "format"
    train: int = Field(default=64, ge=2, le=320)
    """Training items (N)."""
    dev: int = Field(default=32, ge=2, le=80)
    """Items of the dev split, for model selection."""
    test: int = Field(default=128, ge=2, le=200)
    """Items of the test split."""
    token: NewToken = "<sep>"
    """The new special token."""
    token_init: TokenInit = MeanInit()
    """Initialization of its embedding row."""
    vocabulary_multiple: int = Field(default=1, ge=1)
    """The vocabulary is padded to a multiple of this; 64 suits the matrix units of GPUs."""
    metric: Literal["format"] = "format"
    """FormatAcc, LabelAcc and related metrics."""
    seed: int = 0
    """Seed of the split and of the labels."""


class MessagesTask(Config):
    """The user's own task: conversations that end with the assistant's target.

    JSONL (also .gz), JSON, CSV, Parquet or Arrow files, or folders of them; rows in OpenAI's format (``messages``), ShareGPT
    (``conversations``), Alpaca (``instruction``, ``input``, ``output``), or ``prompt`` and ``completion``.
    """

    model_config = ConfigDict(populate_by_name=True, serialize_by_alias=True)

    kind: Literal["messages"]
    train: Path
    """File or folder of training rows."""
    test: Path
    """File or folder of test rows."""
    token: NewToken | None = None
    """A new special token that the rows use, if any."""
    token_init: TokenInit = MeanInit()
    """Initialization of its embedding row."""
    vocabulary_multiple: int = Field(default=1, ge=1)
    """The vocabulary is padded to a multiple of this; 64 suits the matrix units of GPUs."""
    instruction: str | None = Field(default=None, min_length=1)
    """The instruction in each last user turn, which ``rewrite`` replaces by other wordings. null: rows are not rewritten."""
    metric: Metrics = ("exact_match",)
    """Metrics that score an answer against the row's target: exact_match, contains, json_valid, json_match, json_schema, regex, rouge_l,
    bleu, chrf, comet, bleurt, or your own ``module:function``; one or a list."""
    schema_: Path | None = Field(default=None, alias="schema")
    """File with the JSON Schema of metric json_schema."""
    pattern: str | None = Field(default=None, min_length=1)
    """Regular expression of metric regex; it must match the whole trimmed answer."""
    bleu_tokens: BleuTokens = "auto"
    """sacreBLEU's tokenizer for metric bleu. auto: the one for the script of most targets."""

    @field_validator("pattern")
    @classmethod
    def _check_pattern(cls, pattern: str | None) -> str | None:
        return pattern if pattern is None else check_pattern(pattern)

    @model_validator(mode="after")
    def _check_metric_options(self) -> Self:
        check_bleu_tokens(self.metric, self.bleu_tokens)
        for metric, key, value in (("json_schema", "schema", self.schema_), ("regex", "pattern", self.pattern)):
            if metric in self.metric and value is None:
                raise UserError(f"{key} is missing, and metric {metric} needs it; set task.{key}")
            if metric not in self.metric and value is not None:
                raise UserError(f"{key}: found {str(value)!r}, but only metric {metric} reads it; add it to task.metric or leave {key} out")
        return self


class FilePairs(Config):
    """Parallel texts in a file: JSONL, CSV or Parquet with a source and a target field, or TSV without a header."""

    kind: Literal["file"]
    path: Path
    """The file."""
    source: str | None = Field(default=None, min_length=1)
    """Source field, ``a.b`` for ``b`` inside ``a``; in a TSV its column number. null: ``source``, in a TSV ``1``."""
    target: str | None = Field(default=None, min_length=1)
    """Target field. null: ``target``, in a TSV ``2``."""
    unit: Literal["text", "line"] = "text"
    """text: a row is a pair. line: a row is a document, and each line with the same line of the translation is a pair."""
    skip_lines: int = Field(default=0, ge=0)
    """Number of header lines to skip in both texts of a row."""


class SacrebleuPairs(Config):
    """A public test set, from sacreBLEU's loader and cache; the first of several references."""

    kind: Literal["sacrebleu"]
    test_set: str = Field(min_length=1)
    """Name of the test set in ``sacrebleu --list``, for example wmt21."""
    langpair: str = Field(min_length=1)
    """Language pair, for example is-en."""


Pairs = Annotated[FilePairs | SacrebleuPairs, Field(discriminator="kind")]


class TranslationTask(Config):
    """Translation from any language into any other."""

    kind: Literal["translation"]
    source_language: str = Field(min_length=1)
    """Name of the source language as the model knows it: ``Icelandic``."""
    target_language: str = Field(min_length=1)
    """Name of the target language."""
    pairs: Pairs
    """Pairs for all splits without pairs of their own."""
    dev_pairs: Pairs | None = None
    """Pairs of the dev split. null: from ``pairs``."""
    test_pairs: Pairs | None = None
    """Pairs of the test split. null: from ``pairs``."""
    train: int = Field(default=64, ge=1)
    """Training pairs (N); a smaller N is a subset of a larger one."""
    dev: int = Field(default=0, ge=0)
    """Pairs of the dev split."""
    test: int | None = Field(default=100, ge=1)
    """Pairs of the test split. null: all of ``test_pairs``, in order."""
    max_words: int | None = Field(default=None, ge=1)
    """Maximum number of words of source and target; longer pairs are dropped. Without spaces, two letters are a word. null: no limit."""
    instruction: str | None = Field(default=None, min_length=1)
    """Instruction above each text, which ``rewrite`` can replace. null: to translate it, or to follow ``token``."""
    token: NewToken | None = None
    """A new special token that stands for the instruction, if any."""
    token_init: TokenInit = MeanInit()
    """Initialization of its embedding row."""
    vocabulary_multiple: int = Field(default=1, ge=1)
    """The vocabulary is padded to a multiple of this; 64 suits the matrix units of GPUs."""
    metric: Metrics = ("chrf", "bleu")
    """chrf (chrF++), bleu, comet, bleurt, rouge_l, exact_match, contains, or your own ``module:function``; one or a list, the main one
    first."""
    bleu_tokens: BleuTokens = "auto"
    """sacreBLEU's tokenizer for metric bleu. auto: the one for the script of most targets."""
    seed: int = 0
    """Seed of the splits."""

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
        if self.test is None and self.test_pairs is None:
            raise UserError("test: null takes all of test_pairs, and there are none; give test_pairs, or a number of pairs")
        if self.dev_pairs is not None and not self.dev:
            raise UserError("dev: 0 takes none of dev_pairs; give a number of pairs, or leave dev_pairs out")
        if self.token and self.instruction and self.token not in self.instruction:
            raise UserError(f"instruction: {self.instruction!r} does not name task.token={self.token!r}; put it in")
        check_bleu_tokens(self.metric, self.bleu_tokens)
        if "\n\n" in (self.instruction or ""):
            raise UserError(f"instruction: {self.instruction!r} has a blank line, after which the text begins; make it one paragraph")
        if unsuitable := [name for name in self.metric if name.startswith("json_") or name == "regex"]:
            raise UserError(
                f"metric: {unsuitable[0]} checks a format, not a translation; use chrf, bleu, rouge_l, or a function of your own"
            )
        return self

    @property
    def resolved_instruction(self) -> str:
        """``instruction`` with its default filled in."""
        if self.instruction is not None:
            return self.instruction
        if self.token is not None:
            return f"Follow {self.token} for the text below."
        return f"Translate this text from {self.source_language} into {self.target_language}."


class Decontaminate(Config):
    """Decontamination: thresholds of overlap between task or diverse training rows and dev items, test items or everyday prompts.

    Training rows above a threshold are removed and listed as rejects.
    """

    ngram_words: int = Field(default=13, ge=2)
    """Length in words of an n-gram that a training row may not share with an evaluation text; in scripts without spaces (Chinese,
    Japanese, Thai, Lao, Khmer, Burmese, ...) twice as many letters."""
    similarity: float = Field(default=0.8, gt=0, le=1)
    """Jaccard similarity of shingles of three words (in scripts without spaces three letters) from which on it is a near-duplicate."""


TaskConfig = Annotated[FormatTask | MessagesTask | TranslationTask, Field(discriminator="kind")]
